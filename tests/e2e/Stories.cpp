// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/Stories.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace llmrt {
namespace {

// The bound, absolute. The conversion to Hugging Face's layout
// is 1.6e-5 away from llama2.c (NOTE.md).
constexpr double kGoldenBound = 1e-4;
constexpr int kGoldenRows = 16;
constexpr int kVocab = 512;

double worstOf(const Logits& logits, const std::vector<float>& golden) {
  double worst = 0;
  for (int i = 0; i < kGoldenRows; ++i)
    for (int v = 0; v < kVocab; ++v) {
      const double d = std::abs(double(logits[i][v]) - golden[i * kVocab + v]);
      worst = d <= worst ? worst : d; // NaN is the worst
    }
  return worst;
}

} // namespace

std::string storiesFolder() {
  const std::string data = environment("LLMC_TEST_DATA");
  const std::string folder = data + "/stories260K";
  return !data.empty() && std::filesystem::exists(folder) ? folder : "";
}

const std::vector<std::string>& storiesOptions() {
  static const std::vector<std::string> kOptions = {"--seq=256", "--chunk=32"};
  return kOptions;
}

void expectGoldenStory(
    const std::function<absl::StatusOr<RunResult>(RunRequest)>& run) {
  const std::string folder = storiesFolder();
  std::vector<int32_t> ids =
      readTokens(folder + "/golden_greedy.json", "input_ids");
  ASSERT_EQ(ids.size(), 200u);
  RunRequest request;
  request.weights = folder + "/" + kStoriesModel;
  request.tokens = {ids[0]};
  request.prefill = 1;
  request.greedy = 199;
  absl::StatusOr<RunResult> result = run(request);
  ASSERT_TRUE(result.ok()) << result.status();
  std::vector<int32_t> sampled(result->sampled.begin(),
                               result->sampled.end() - 1);
  EXPECT_EQ(sampled, std::vector<int32_t>(ids.begin() + 1, ids.end()));

  std::ifstream file(folder + "/golden_logits_first16.f32", std::ios::binary);
  std::vector<float> golden(kGoldenRows * kVocab);
  ASSERT_TRUE(file.read(reinterpret_cast<char*>(golden.data()),
                        golden.size() * sizeof(float)));
  ASSERT_GE(result->logits.size(), size_t(kGoldenRows));
  EXPECT_LT(worstOf(result->logits, golden), kGoldenBound);
  request.tokens.assign(ids.begin(), ids.begin() + kGoldenRows);
  request.score = true;
  absl::StatusOr<RunResult> scored = run(request);
  ASSERT_TRUE(scored.ok()) << scored.status();
  EXPECT_LT(worstOf(scored->logits, golden), kGoldenBound);
  ::testing::Test::RecordProperty(
      "worst_difference", std::to_string(worstOf(scored->logits, golden)));
}

} // namespace llmrt
