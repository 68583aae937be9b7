// SPDX-License-Identifier: Apache-2.0
// A model for tests of generation that needs no kernels: its cache remembers
// token ids by page, and the next token is a hash of every token that the block
// table leads to. A wrong position, page, row or mask changes the text. It runs
// no plan.
#pragma once

#include "runtime/executor/Executor.h"

#include <cstring>
#include <map>

namespace llmrt {

struct FakePlanShape {
  int dp = 1;
  int pp = 1;
  int tp = 1;
  int64_t batch = 1;
  int64_t chunk = 8;
  int64_t cacheTokens = 256;
  int64_t vocabSize = 101;
};

/// Returns a plan that has what generation reads, and no commands.
std::vector<uint8_t> makeFakePlan(const FakePlanShape& shape);

/// Returns the token that follows `tokens` (greedy), and its logits.
int32_t fakeNextToken(absl::Span<const int32_t> tokens, int64_t vocabSize);
/// Returns the token drawn with keys {seed, sequence, topK}.
int32_t fakeSampledToken(absl::Span<const int32_t> tokens,
                         absl::Span<const int32_t> keys, int64_t vocabSize);
std::vector<float> fakeLogits(absl::Span<const int32_t> tokens,
                              int64_t vocabSize);

class FakeExecutor final : public Executor {
public:
  /// Makes a communicator of all ranks, which every execute() uses to check
  /// that all ranks run the same entry.
  FakeExecutor(const fb::Plan& plan, Fabric& fabric);

  absl::Status initialise() override { return absl::OkStatus(); }

  int findEntry(absl::string_view name) const override;
  absl::Span<uint8_t> input(int entry, absl::string_view name) override;
  absl::Span<const uint8_t> output(int entry,
                                   absl::string_view name) const override;
  absl::Status execute(int entry, int64_t validRows,
                       ExecuteStatistics* statistics) override;

  absl::Status executeStep(ExecuteStatistics*) override {
    return absl::UnimplementedError("a plan for inference");
  }

  absl::Status executeEvaluation(ExecuteStatistics*) override {
    return absl::UnimplementedError("a plan for inference");
  }

  absl::Status reloadWeights(const std::vector<WeightLocation>&) override {
    return absl::OkStatus();
  }

  absl::Span<uint8_t> stepInput(absl::string_view) override { return {}; }

  absl::Span<const uint8_t> stepOutput(absl::string_view) const override {
    return {};
  }

  absl::Span<uint8_t> parameterMemory(int) override { return {}; }

  absl::Span<uint8_t> stateMemory(int) override { return {}; }

  int stage() const override { return stage_; }

  absl::Span<const int> coordinates() const override { return coordinates_; }

  std::string recorderDump() const override { return ""; }

  struct Call {
    int entry;
    int64_t validRows;
  };

  std::vector<Call> calls;
  int failAtCall = -1; // that call returns an error

private:
  std::vector<int32_t> readInts(int entry, absl::string_view name);
  void runSequence(int entry, int64_t s, int64_t validRows);

  const fb::Plan& plan_;
  Fabric& fabric_;
  std::unique_ptr<Communicator> all_;
  std::vector<int> coordinates_;
  int stage_ = 0;
  std::map<std::pair<int, std::string>, std::vector<uint8_t>> inputs_;
  std::map<std::pair<int, std::string>, std::vector<uint8_t>> outputs_;
  std::vector<int32_t> cache_; // [pages, kPageTokens]
};

} // namespace llmrt
