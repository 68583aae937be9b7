// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/CollectiveErrors.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include <algorithm>

namespace llmrt {

std::string describeCollective(const CollectiveTag& tag) {
  std::string text = *tag.kind ? tag.kind : "a collective";
  if (*tag.subject)
    absl::StrAppend(&text, " of ", tag.subject);
  absl::StrAppend(&text, " (command ", tag.command);
  if (*tag.pass)
    absl::StrAppend(&text, ", put there by ", tag.pass);
  return text + ")";
}

absl::Status makeTimeoutError(int culprit, int waiter, const CollectiveTag& tag,
                              double timeoutSeconds) {
  return makeError(
      ErrorCode::CollectiveTimeout,
      absl::StrFormat("rank %d did not come within %g s to %s, where rank %d "
                      "waited",
                      culprit, timeoutSeconds, describeCollective(tag), waiter),
      absl::StrFormat("look at the messages and the flight recorder of rank %d",
                      culprit));
}

absl::Status makeMismatchError(int rank, int peer, const CollectiveTag& tag,
                               const std::string& difference) {
  return makeError(ErrorCode::CollectiveMismatch,
                   absl::StrFormat("ranks %d and %d disagree about %s: %s",
                                   rank, peer, describeCollective(tag),
                                   difference),
                   "run the same plan with the same options on every rank");
}

absl::Status makeAbortedError(int rank, const absl::Status& reason) {
  std::string timeoutCode = errorCodeName(ErrorCode::CollectiveTimeout);
  if (reason.message().substr(0, timeoutCode.size()) == timeoutCode)
    return reason;
  return makeError(ErrorCode::CollectiveAborted,
                   absl::StrFormat("rank %d stopped the run: %s", rank,
                                   std::string(reason.message())),
                   "");
}

absl::Status checkRankList(absl::Span<const int> worldRanks, int self,
                           int worldSize) {
  std::vector<int> sorted(worldRanks.begin(), worldRanks.end());
  std::sort(sorted.begin(), sorted.end());
  bool isDistinct =
      std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  bool isInside =
      !sorted.empty() && sorted.front() >= 0 && sorted.back() < worldSize;
  bool hasSelf = std::binary_search(sorted.begin(), sorted.end(), self);
  if (isDistinct && isInside && hasSelf)
    return absl::OkStatus();
  return makeError(
      ErrorCode::BadCommunicatorArgument,
      absl::StrFormat("rank %d of %d cannot make a group of ranks %s", self,
                      worldSize, absl::StrJoin(worldRanks, ",")),
      "compile the plan for the mesh of this run");
}

absl::Status checkReducible(DType dtype, const CollectiveTag& tag) {
  if (dtype == DType::F32 || dtype == DType::BF16)
    return absl::OkStatus();
  return makeError(ErrorCode::BadCommunicatorArgument,
                   absl::StrCat("no sum over ranks for element type ",
                                static_cast<int>(dtype), " in ",
                                describeCollective(tag)),
                   "reduce in f32 or bf16");
}

absl::Status checkPeer(int peer, int self, int groupSize,
                       const CollectiveTag& tag) {
  if (peer >= -1 && peer < groupSize && peer != self)
    return absl::OkStatus();
  return makeError(ErrorCode::BadCommunicatorArgument,
                   absl::StrFormat("rank %d of a group of %d has no peer %d in "
                                   "%s",
                                   self, groupSize, peer,
                                   describeCollective(tag)),
                   "compile the plan for the mesh of this run");
}

} // namespace llmrt
