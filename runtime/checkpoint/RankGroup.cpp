// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/RankGroup.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

namespace llmrt {
namespace {

CollectiveTag tagOf(const char* kind, const char* subject) {
  return {
      .command = -1, .kind = kind, .subject = subject, .pass = "checkpoint"};
}

} // namespace

absl::Status RankGroup::agree(const absl::Status& mine,
                              const char* subject) const {
  absl::Status agreed;
  LLMRT_RETURN_IF_ERROR(share(mine, subject, agreed));
  return agreed;
}

absl::Status RankGroup::share(const absl::Status& mine, const char* subject,
                              absl::Status& agreed) const {
  agreed = mine;
  if (size() == 1)
    return absl::OkStatus();
  const uint64_t own[2] = {static_cast<uint64_t>(mine.code()),
                           mine.message().size()};
  LLMRT_ASSIGN_OR_RETURN(std::vector<uint64_t> all, allGather(own, subject));
  for (int rank = 0; rank < size(); ++rank) {
    uint64_t code = all[2 * rank];
    if (code == 0)
      continue;
    std::string text(all[2 * rank + 1], ' ');
    if (rank == this->rank())
      text = std::string(mine.message());
    if (!text.empty())
      LLMRT_RETURN_IF_ERROR(communicator_->broadcast(
          text.data(), static_cast<int64_t>(text.size()), rank,
          tagOf("broadcast", subject)));
    agreed = absl::Status(static_cast<absl::StatusCode>(code),
                          absl::StrCat(text, " (rank ", rank, ")"));
    return absl::OkStatus();
  }
  agreed = absl::OkStatus();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>>
RankGroup::allGather(absl::Span<const uint64_t> mine,
                     const char* subject) const {
  if (size() == 1)
    return std::vector<uint64_t>(mine.begin(), mine.end());
  std::vector<uint64_t> all(mine.size() * size());
  LLMRT_RETURN_IF_ERROR(communicator_->allGather(
      mine.data(), all.data(), static_cast<int64_t>(mine.size() * 8),
      tagOf("all_gather", subject)));
  return all;
}

absl::Status RankGroup::broadcast(std::vector<int64_t>& words,
                                  const char* subject) const {
  if (size() == 1)
    return absl::OkStatus();
  auto count = static_cast<int64_t>(words.size());
  LLMRT_RETURN_IF_ERROR(communicator_->broadcast(&count, 8, /*root=*/0,
                                                 tagOf("broadcast", subject)));
  words.resize(static_cast<size_t>(count));
  if (count == 0)
    return absl::OkStatus();
  return communicator_->broadcast(words.data(), count * 8, /*root=*/0,
                                  tagOf("broadcast", subject));
}

} // namespace llmrt
