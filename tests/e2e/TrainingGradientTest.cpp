// SPDX-License-Identifier: Apache-2.0
// Gradients of compiled f32 plans, parameter by parameter, against PyTorch in
// float64: every family on one rank, and the ways to cut a step. One step with
// beta1 = 0 and without clipping leaves the gradient itself in Adam's first
// moment, which every mesh and every stage of ZeRO keeps as a logical tensor.
#include "tests/e2e/TrainingRunner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

namespace llmrt {
namespace {

using testing::GradientsByName;
using testing::readTrainingFixture;
using testing::TrainingFixture;

// The bounds. float32 of PyTorch reaches 3.6e-6
// (tests/fixtures/README.md).
constexpr double kGradientBound = 1e-5;
constexpr double kZeroBound = 1e-6; // of the global norm

struct Case {
  std::string fixture;
  std::vector<std::string> options;
};

void PrintTo(const Case& c, std::ostream* os) {
  *os << c.fixture;
  for (const std::string& option : c.options)
    *os << " " << option;
}

double normOf(const std::vector<float>& values, size_t begin, size_t end) {
  double squares = 0;
  for (size_t i = begin; i < end; ++i)
    squares += double{values[i]} * values[i];
  return std::sqrt(squares);
}

double globalNorm(const GradientsByName& gradients) {
  double squares = 0;
  for (const auto& [name, values] : gradients)
    squares += std::pow(normOf(values, 0, values.size()), 2);
  return std::sqrt(squares);
}

class Gradients : public ::testing::TestWithParam<Case> {
protected:
  /// Errors are recorded as properties of the test.
  void expectReference(const TrainingFixture& fixture,
                       const GradientsByName& gradients) {
    auto worst = testing::worstGradient(fixture.gradients, gradients);
    ASSERT_TRUE(worst.ok()) << worst.status();
    std::ostringstream text;
    text << worst->error << " " << worst->name;
    RecordProperty("worst", text.str());
    EXPECT_LE(worst->error, kGradientBound) << worst->name;
    expectZeros(fixture.gradients, gradients);
  }

  /// A softmax does not change when every key moves by the same vector, so the
  /// bias of keys without rotation (GPT-2: the middle third of c_attn.bias) has
  /// no gradient.
  void expectZeros(const GradientsByName& reference,
                   const GradientsByName& gradients) {
    double global = globalNorm(reference);
    for (const auto& [name, values] : gradients) {
      if (name.find("attn.c_attn.bias") == std::string::npos)
        continue;
      size_t third = values.size() / 3;
      EXPECT_LE(normOf(reference.at(name), third, 2 * third), 1e-12 * global);
      EXPECT_LE(normOf(values, third, 2 * third), kZeroBound * global) << name;
    }
  }
};

TEST_P(Gradients, AreThoseOfPyTorch) {
  auto fixture = readTrainingFixture(GetParam().fixture);
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  ASSERT_FALSE(fixture->gradients.empty());
  fixture->optimizer.beta1 = 0;
  fixture->optimizer.clip = 0;
  auto result = runTraining(
      *fixture,
      {.options = GetParam().options, .numSteps = 1, .readMoments = true});
  ASSERT_TRUE(result.ok()) << result.status();
  expectReference(*fixture, result->moments);
}

std::string nameOf(const ::testing::TestParamInfo<Case>& info) {
  return caseName(info.param.fixture, info.param.options);
}

std::vector<Case> families() {
  std::vector<Case> all;
  for (const char* fixture :
       {"llama2/pretrain", "llama3/pretrain", "llama-9q3kv/pretrain",
        "llama-deep/pretrain", "mistral/pretrain", "qwen2/pretrain",
        "qwen3/pretrain", "gemma2/pretrain", "gemma3/pretrain", "gpt2/pretrain",
        "llama3/sft", "llama-deep/sft", "mistral/sft", "qwen3/sft",
        "gemma2/sft", "gemma3/sft", "gpt2/sft"})
    all.push_back({fixture, {}});
  return all;
}

std::vector<Case> meshes() {
  std::vector<Case> all;
  for (const char* fixture :
       {"llama-9q3kv/pretrain", "llama-deep/pretrain", "qwen2/pretrain",
        "qwen3/sft", "gemma3/sft", "gpt2/sft"})
    for (std::vector<std::string> options :
         {std::vector<std::string>{"--mesh=tp=2"},
          {"--mesh=dp=2", "--zero=2"},
          {"--mesh=pp=2", "--microbatches=2"}})
      all.push_back({fixture, options});
  all.push_back({"llama-deep/pretrain",
                 {"--mesh=dp=2,pp=2,tp=2", "--zero=3", "--microbatches=2"}});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Families, Gradients, ::testing::ValuesIn(families()),
                         nameOf);
INSTANTIATE_TEST_SUITE_P(Meshes, Gradients, ::testing::ValuesIn(meshes()),
                         nameOf);

} // namespace
} // namespace llmrt
