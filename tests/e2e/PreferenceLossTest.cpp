// SPDX-License-Identifier: Apache-2.0
// Preference optimisation: losses, norms and rewards of AdamW steps against
// PyTorch's float64 with TRL's formulas, with the reference model in the plan
// and computed before, on one rank and on meshes.
#include "tests/e2e/TrainingRunner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace llmrt {
namespace {

using testing::readTrainingFixture;
using testing::TrainingFixture;

double mean(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / x.size();
}

void expectSteps(const TrainingFixture& fixture, const TrainingResult& result) {
  ASSERT_EQ(result.losses.size(), fixture.losses.size());
  ASSERT_EQ(result.chosenRewards.size(), fixture.pairs.size());
  for (size_t i = 0; i < result.losses.size(); ++i) {
    EXPECT_NEAR(result.losses[i], fixture.losses[i],
                1e-5 * std::abs(fixture.losses[i]))
        << "step " << i;
    EXPECT_NEAR(result.norms[i], fixture.norms[i],
                1e-4 * std::abs(fixture.norms[i]))
        << "step " << i;
    // A reward is beta times a difference of two sums of losses, of the size of
    // the sums: so are its errors.
    const testing::PairReport& pairs = fixture.pairs[i];
    auto bound = [&](const std::vector<double>& sums) {
      double largest = 0;
      for (double sum : sums)
        largest = std::max(largest, std::abs(sum));
      return 1e-6 * fixture.dpo.beta * largest;
    };
    EXPECT_NEAR(result.chosenRewards[i], mean(pairs.chosenRewards),
                bound(pairs.chosenLogProbabilities))
        << "step " << i;
    EXPECT_NEAR(result.rejectedRewards[i], mean(pairs.rejectedRewards),
                bound(pairs.rejectedLogProbabilities))
        << "step " << i;
  }
}

struct Case {
  std::string fixture;
  std::vector<std::string> options;
};

class Preference : public ::testing::TestWithParam<Case> {};

TEST_P(Preference, StepsAreThoseOfPyTorchWithTrlsFormulas) {
  auto fixture = readTrainingFixture(GetParam().fixture);
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  std::vector<std::string> options = GetParam().options;
  options.push_back("--preference-loss=" + fixture->dpo.loss);
  auto result = runTraining(
      *fixture, {.options = options,
                 .numSteps = static_cast<int>(fixture->losses.size())});
  ASSERT_TRUE(result.ok()) << result.status();
  expectSteps(*fixture, *result);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* name :
       {"dpo", "dpo-sigmoid", "dpo-smoothed", "dpo-hinge", "dpo-ipo"})
    for (const char* reference : {"plan", "precompute"})
      all.push_back({std::string("llama-deep/") + name,
                     {std::string("--reference=") + reference}});
  const std::vector<std::string> meshes[] = {
      {"--mesh=tp=2"},
      {"--mesh=pp=2", "--microbatches=2"},
      {"--mesh=pp=3", "--microbatches=2", "--schedule=zero-bubble"},
      {"--mesh=pp=2", "--microbatches=2", "--schedule=interleaved"},
      {"--mesh=dp=2", "--zero=0", "--reference-zero=3"},
      {"--mesh=dp=2", "--zero=3"},
      {"--mesh=dp=2", "--zero=3", "--reference-zero=3", "--recompute=full"},
      {"--mesh=dp=2,pp=2,tp=2", "--zero=2", "--reference-zero=3"},
      {"--microbatches=2"}};
  for (const std::vector<std::string>& options : meshes)
    all.push_back({"llama-deep/dpo", options});
  for (const char* mesh : {"--mesh=pp=2", "--mesh=dp=2,tp=2"})
    all.push_back({"llama-deep/dpo-ipo", {mesh, "--reference=precompute"}});
  all.push_back({"llama-deep/dpo-ipo",
                 {"--mesh=pp=2", "--microbatches=4", "--schedule=interleaved",
                  "--reference=precompute"}});
  return all;
}

std::string nameOf(const ::testing::TestParamInfo<Case>& info) {
  return caseName(info.param.fixture, info.param.options);
}

INSTANTIATE_TEST_SUITE_P(Step, Preference, ::testing::ValuesIn(cases()),
                         nameOf);

} // namespace
} // namespace llmrt
