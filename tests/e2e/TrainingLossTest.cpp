// SPDX-License-Identifier: Apache-2.0
// Ten losses of AdamW with clipping against PyTorch in float64, on one rank and
// on meshes.
#include "tests/e2e/TrainingRunner.h"

#include <gtest/gtest.h>

#include <cmath>

namespace llmrt {
namespace {

using testing::readTrainingFixture;
using testing::TrainingFixture;

void expectLosses(const TrainingFixture& fixture, const TrainingResult& result) {
  ASSERT_EQ(result.losses.size(), fixture.losses.size());
  for (size_t i = 0; i < result.losses.size(); ++i) {
    EXPECT_NEAR(result.losses[i], fixture.losses[i],
                1e-5 * std::abs(fixture.losses[i]))
        << "step " << i;
    EXPECT_NEAR(result.norms[i], fixture.norms[i],
                2e-5 * std::abs(fixture.norms[i]))
        << "step " << i;
  }
}

class Families : public ::testing::TestWithParam<const char*> {};

TEST_P(Families, TenLossesAreThoseOfPyTorch) {
  auto fixture = readTrainingFixture(GetParam());
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  auto result = runTraining(*fixture, {});
  ASSERT_TRUE(result.ok()) << result.status();
  expectLosses(*fixture, *result);
}

std::string nameOf(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(c))
      c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Pretrain, Families,
    ::testing::Values("llama2/pretrain", "llama3/pretrain",
                      "llama-9q3kv/pretrain", "llama-deep/pretrain",
                      "mistral/pretrain", "qwen2/pretrain", "qwen3/pretrain",
                      "gemma2/pretrain", "gemma3/pretrain", "gpt2/pretrain"),
    nameOf);

INSTANTIATE_TEST_SUITE_P(
    Sft, Families,
    ::testing::Values("llama2/sft", "llama3/sft", "llama-9q3kv/sft",
                      "llama-deep/sft", "mistral/sft", "qwen2/sft",
                      "qwen3/sft", "gemma2/sft", "gemma3/sft", "gpt2/sft"),
    nameOf);

} // namespace
} // namespace llmrt
