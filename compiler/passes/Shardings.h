// SPDX-License-Identifier: Apache-2.0
// Arithmetic of cut dimensions: which units each rank holds.
#pragma once

#include "dialects/dist/Dist.h"

namespace llmc {

/// Name of the attribute that holds a value's sharding between propagation and
/// partition: an array with one entry per result of an op; one attribute on an
/// argument.
inline constexpr llvm::StringLiteral kShardingAttr = "dist.sharding";

/// Elements [offset, offset + count) of the cut dimension.
struct ElementRange {
  int64_t offset = 0;
  int64_t count = 0;
};

/// What rank `coordinate` of `ranks` holds. Whole units: rank r has the r-th
/// run of ceil(units / ranks) units; key/value heads (group > 1): the units
/// that this rank's run of query heads reads.
ElementRange rangeOf(dist::DimSplitAttr split, int64_t coordinate,
                     int64_t ranks);

/// Size of the dimension on every rank: the largest count.
int64_t localSize(dist::DimSplitAttr split, int64_t ranks);

/// First query head of a rank, modulo the group: where its heads start inside
/// the first key/value head that it holds.
int64_t headOffset(dist::DimSplitAttr keySplit, int64_t coordinate,
                   int64_t ranks);

/// True if two ranks hold one unit.
bool hasSharedUnits(dist::DimSplitAttr split, int64_t ranks);

/// True if two cuts give each rank the same units.
bool isSameCut(dist::DimSplitAttr a, dist::DimSplitAttr b);

/// True if every pipeline stage may have its own copy of the op: it reads a
/// parameter, a cache, a state or an input of the entry, perhaps with one step
/// of work on it.
bool isSharedByStages(mlir::Operation* op);

/// Begins pipeline stage `stage` at `first`, an op of an entry: what the ops
/// before it have made and ops from it on read crosses by a
/// `dist.pipeline_stage`. A value that is returned too (saved for the backward
/// pass) is then the later stage's.
void beginStageAt(mlir::Operation* first, int64_t stage);

} // namespace llmc
