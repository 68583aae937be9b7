// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TextClient.h"

#include "runtime/base/Error.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/StandardOutput.h"

#include "absl/strings/str_format.h"

namespace llmrt {

TextClient::TextClient(const TextModel& model, GenerationRequest request,
                       bool isContinuation)
    : decoder_(model.tokenizer(),
               {.skipSpecial = true, .isContinuation = isContinuation}),
      request_(std::move(request)),
      numPrompt_(static_cast<int64_t>(request_->prompt.size())) {}

absl::StatusOr<std::optional<GenerationRequest>> TextClient::nextRequest() {
  return std::exchange(request_, std::nullopt);
}

absl::StatusOr<bool> TextClient::takeToken(int64_t, int32_t id) {
  ++numTokens_;
  LLMRT_RETURN_IF_ERROR(writeStandardOutput(decoder_.push(id)));
  return true;
}

absl::Status TextClient::takeResult(const GenerationResult&) {
  return absl::OkStatus();
}

void TextClient::takeRound(const RoundStatistics& round) {
  (numFed_ < numPrompt_ ? prefillSeconds_ : decodeSeconds_) += round.seconds;
  numFed_ += round.rows;
}

bool TextClient::isInterrupted() { return isInterruptRequested(); }

absl::Status TextClient::finish() {
  return writeStandardOutput(decoder_.finish() + "\n");
}

std::string TextClient::summary() const {
  auto rate = [](int64_t count, double seconds) {
    return seconds > 0 ? count / seconds : 0.0;
  };
  int64_t numDecoded = std::max<int64_t>(0, numTokens_ - 1);
  return absl::StrFormat(
      "prompt of %d tokens in %.2f s (%.1f tokens/s), then %d tokens in %.2f s "
      "(%.1f tokens/s)",
      numPrompt_, prefillSeconds_, rate(numPrompt_, prefillSeconds_),
      numDecoded, decodeSeconds_, rate(numDecoded, decodeSeconds_));
}

} // namespace llmrt
