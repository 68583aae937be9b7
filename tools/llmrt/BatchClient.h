// SPDX-License-Identifier: Apache-2.0
// A file of prompts: checked as a whole before anything runs, results in input
// order, continued after an interruption.
#pragma once

#include "runtime/generation/ResultFile.h"
#include "tools/llmrt/Options.h"
#include "tools/llmrt/Progress.h"
#include "tools/llmrt/TextModel.h"

#include <map>

namespace llmrt {

class BatchClient final : public GenerationClient {
public:
  /// Reads and encodes every line, so that a malformed one stops the run before
  /// it starts, and opens the output. Without an output path results go to
  /// standard output. `model` outlives the client. Errors  PromptLineMalformed,
  /// PromptTooLong (with the line), those of ResultFile.
  static absl::StatusOr<std::unique_ptr<BatchClient>>
  create(const TextModel& model, const RunOptions& options,
         const LoadedPlan& plan);

  absl::StatusOr<std::optional<GenerationRequest>> nextRequest() override;
  absl::StatusOr<bool> takeToken(int64_t index, int32_t id) override;
  absl::Status takeResult(const GenerationResult& result) override;
  void takeRound(const RoundStatistics& round) override;
  bool isInterrupted() override;

  /// Makes the output appear.
  absl::Status finish();
  /// Says how the run can be continued.
  void reportInterruption();

private:
  explicit BatchClient(const TextModel& model, const RunOptions& options)
      : model_(model), options_(options) {}

  absl::StatusOr<EncodedPrompt> encode(const PromptLine& line) const;
  absl::Status checkLines(int64_t contextTokens);
  absl::Status writeInOrder();

  const TextModel& model_;
  const RunOptions& options_;
  PromptFile prompts_;
  std::optional<ResultFile> results_;      // none: standard output
  std::map<int64_t, std::string> waiting_; // for standard output
  int64_t next_ = 0;
  int64_t nextToPrint_ = 0;
  std::optional<Progress> progress_;
};

} // namespace llmrt
