// SPDX-License-Identifier: Apache-2.0
// Buckets: several small collectives that move as one, for the latency of one.
// On `dist.start` a number marks those that belong together, which stand side
// by side; in a plan they are the parts of one `plan.collective`.
#pragma once

#include "dialects/dist/Dist.h"
#include "dialects/plan/Plan.h"

namespace llmc {

/// Of a dist.start: the number of its bucket in the segment.
inline constexpr llvm::StringLiteral kBucketAttr = "dist.bucket";

/// Gives neighbours of `starts` a bucket as long as one rank's parts are
/// `mostBytes` at most and move alike. `numBuckets` counts those of the
/// segment. One that stays alone gets no number.
void assignBuckets(llvm::ArrayRef<dist::StartOp> starts, int64_t mostBytes,
                   int64_t& numBuckets);

/// True if both belong to one bucket.
bool shareBucket(dist::StartOp a, dist::StartOp b);

/// A part of a bucket, in buffers of the stage. `bytes` as of the command.
struct CollectivePart {
  llvm::StringRef send;
  llvm::StringRef recv;
  int64_t bytes;
};

/// Adds a part to those that a command has.
void addPart(plan::CollectiveOp op, const CollectivePart& part);

/// Returns the parts that a command has beside its first.
llvm::SmallVector<CollectivePart> furtherParts(plan::CollectiveOp op);

/// Returns them as the words of the command, three each (plan.fbs).
llvm::SmallVector<plan::WordAttr> partWords(plan::CollectiveOp op);

} // namespace llmc
