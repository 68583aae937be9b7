// SPDX-License-Identifier: Apache-2.0
// What saving and finding checkpoints needs of the ranks of a run: to agree on
// one error, and to exchange a few bytes. A thin layer over a Communicator that
// may be absent, because a run of one rank has none.
#pragma once

#include "runtime/comm/Communicator.h"

#include <string>
#include <vector>

namespace llmrt {

/// Every rank makes the same calls in the same order.
class RankGroup {
public:
  /// `communicator` may be null: one rank. It outlives this object.
  explicit RankGroup(Communicator* communicator)
      : communicator_(communicator) {}

  int rank() const { return communicator_ ? communicator_->rank() : 0; }

  int size() const { return communicator_ ? communicator_->size() : 1; }

  /// Returns, on every rank, ok if `mine` is ok on all, else the error of the
  /// first rank that has one, followed by "(rank R)" if there are several. Also
  /// a barrier. Errors  those of a Communicator.
  absl::Status agree(const absl::Status& mine, const char* subject) const;

  /// As agree(), but keeps the agreed status in `agreed` and returns only
  /// errors of communication: for callers that go on after an agreed error.
  absl::Status share(const absl::Status& mine, const char* subject,
                     absl::Status& agreed) const;

  /// Returns size() blocks in rank order; `mine` has one length on all ranks.
  absl::StatusOr<std::vector<uint64_t>>
  allGather(absl::Span<const uint64_t> mine, const char* subject) const;

  /// Gives every rank the words of rank 0.
  absl::Status broadcast(std::vector<int64_t>& words,
                         const char* subject) const;

private:
  Communicator* communicator_;
};

} // namespace llmrt
