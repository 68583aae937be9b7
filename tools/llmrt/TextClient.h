// SPDX-License-Identifier: Apache-2.0
// One prompt: its text streams to standard output as it is generated.
#pragma once

#include "tools/llmrt/TextModel.h"

namespace llmrt {

class TextClient final : public GenerationClient {
public:
  /// `isContinuation`: the text goes on from the prompt's.
  TextClient(const TextModel& model, GenerationRequest request,
             bool isContinuation);

  absl::StatusOr<std::optional<GenerationRequest>> nextRequest() override;
  absl::StatusOr<bool> takeToken(int64_t index, int32_t id) override;
  absl::Status takeResult(const GenerationResult& result) override;
  void takeRound(const RoundStatistics& round) override;
  bool isInterrupted() override;

  /// Ends the text with a line end.
  absl::Status finish();

  /// "prompt 12 tokens in 0.10 s (120.0 tokens/s), 50 tokens in ..."
  std::string summary() const;

private:
  StreamingDecoder decoder_;
  std::optional<GenerationRequest> request_;
  int64_t numPrompt_;
  int64_t numFed_ = 0;
  int64_t numTokens_ = 0;
  double prefillSeconds_ = 0;
  double decodeSeconds_ = 0;
};

} // namespace llmrt
