// SPDX-License-Identifier: Apache-2.0
// The texts of communication errors, one form for every back-end. Ranks in
// messages are world ranks.
#pragma once

#include "runtime/comm/Communicator.h"

namespace llmrt {

/// Returns "all_gather of layers.3.mlp (command 17, put there by
/// lower-collectives)".
std::string describeCollective(const CollectiveTag& tag);

/// Names `culprit`, the world rank whose data did not come to the collective
/// that `waiter` waited in.
absl::Status makeTimeoutError(int culprit, int waiter, const CollectiveTag& tag,
                              double timeoutSeconds);

/// Says how `peer` called while `rank` made the call of `tag`.
absl::Status makeMismatchError(int rank, int peer, const CollectiveTag& tag,
                               const std::string& difference);

/// Returns what calls return after `rank` aborted with `reason`.
absl::Status makeAbortedError(int rank, const absl::Status& reason);

/// Returns BadCommunicatorArgument unless `worldRanks` are distinct ranks of a
/// world of `worldSize` that include `self`.
absl::Status checkRankList(absl::Span<const int> worldRanks, int self,
                           int worldSize);

/// Returns BadCommunicatorArgument unless reductions know `dtype`.
absl::Status checkReducible(DType dtype, const CollectiveTag& tag);

/// Returns BadCommunicatorArgument unless `peer` is another rank of a group of
/// `groupSize`, or -1.
absl::Status checkPeer(int peer, int self, int groupSize,
                       const CollectiveTag& tag);

} // namespace llmrt
