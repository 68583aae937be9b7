// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/CudaLogProbabilities.h"

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace llmrt {
namespace {

constexpr int kNumTokens = 70; // of every fixture's text

/// Rows of the text: its ends, and beside borders of the pages and
/// of the chunks in which it is scored. The first step runs command by command,
/// the second one is captured, the others are replayed.
const std::vector<int64_t> kRows = {0, 68, 23, 64};

std::vector<int32_t> tokensOf(const CudaCase& c) {
  return readTokens(c.folder() + "/tokens.json", "tokens");
}

testing::TrainingFixture stepsOf(const CudaCase& c) {
  return oneLabelAStep(c.modelPath(), tokensOf(c), kRows, /*numSequences=*/1);
}

/// Minus the log-probability of a token after a row of logits.
double lossOf(const std::vector<float>& logits, int32_t token) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits)
    sum += std::exp(x - most);
  return most + std::log(sum) - logits[token];
}

std::vector<double> lossesOf(const CudaCase& c, const Logits& scores) {
  const std::vector<int32_t> tokens = tokensOf(c);
  std::vector<double> losses;
  losses.reserve(kRows.size());
  for (int64_t row : kRows)
    losses.push_back(lossOf(scores[row], tokens[row + 1]));
  return losses;
}

double largest(const Logits& logits) {
  double most = 0;
  for (const std::vector<float>& row : logits)
    for (float x : row)
      most = std::max(most, std::abs(double(x)));
  return most;
}

void expectNear(const char* what, const std::vector<double>& losses,
                const std::vector<double>& expected, double bound) {
  ASSERT_EQ(losses.size(), expected.size()) << what;
  double worst = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    EXPECT_NEAR(losses[i], expected[i], bound) << what << ", row " << kRows[i];
    const double error = std::abs(losses[i] - expected[i]);
    worst = error <= worst ? worst : error; // NaN is the worst
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", worst / bound);
  ::testing::Test::RecordProperty(absl::StrCat(what, "_of_bound"), text);
}

} // namespace

const std::vector<CudaCase>& cudaProbabilityCases() {
  static const std::vector<CudaCase> kCases = {
      {"llama-9q3kv", 3, "f32"},
      {"gemma2", 3, "f32"},
      {"llama-9q3kv", 3, "bf16"},
      {"llama-9q3kv", 3, "f32", "--mesh=tp=2"},
  };
  return kCases;
}

std::string probabilityName(const CudaCase& c) {
  return c.name() + "_probabilities";
}

std::vector<std::string> probabilityOptions(const CudaCase& c) {
  std::vector<std::string> options = {
      "--mode=train", "--objective=sft", "--batch=1",
      absl::StrCat("--seq=", kNumTokens), absl::StrCat("--dtype=", c.dtype)};
  if (*c.mesh)
    options.emplace_back(c.mesh);
  return options;
}

void expectLogProbabilitiesOfCpu(const CudaCase& c, const std::string& cpuPlan,
                                 const CudaRunner& runCuda,
                                 const CudaTrainer& train) {
  RunRequest request;
  request.plan = cpuPlan;
  request.weights = c.modelPath();
  request.tokens = tokensOf(c);
  request.score = true;
  ASSERT_EQ(request.tokens.size(), size_t(kNumTokens));
  absl::StatusOr<RunResult> cpu = runPlan(request);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  // A logarithm of a softmax moves by the difference of a logit and of a mean
  // of logits. The bound of bf16 is for roundings of one sign, which a text of
  // 70 tokens does not have: a quarter of it.
  const bool isFloat32 = std::string(c.dtype) == "f32";
  const double bound =
      mostLogitError(c) * largest(cpu->logits) / (isFloat32 ? 1 : 4);
  absl::StatusOr<RunResult> scored = runCuda(request);
  ASSERT_TRUE(scored.ok()) << scored.status();
  const std::vector<double> expected = lossesOf(c, cpu->logits);
  expectNear("scored", lossesOf(c, scored->logits), expected, bound);

  TrainingRequest steps;
  steps.numSteps = static_cast<int>(kRows.size());
  steps.checkMemory = false;
  absl::StatusOr<TrainingResult> trained = train(stepsOf(c), steps);
  ASSERT_TRUE(trained.ok()) << trained.status();
  expectNear("trained", trained->losses, expected, bound);
}

} // namespace llmrt
