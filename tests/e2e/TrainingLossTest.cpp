// SPDX-License-Identifier: Apache-2.0
// Ten losses of AdamW with clipping against PyTorch in float64, on one rank and
// on meshes.
#include "tests/e2e/TrainingRunner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace llmrt {
namespace {

using testing::readTrainingFixture;
using testing::TrainingFixture;

void expectLosses(const TrainingFixture& fixture,
                  const TrainingResult& result) {
  ASSERT_EQ(result.losses.size(), fixture.losses.size());
  for (size_t i = 0; i < result.losses.size(); ++i) {
    EXPECT_NEAR(result.losses[i], fixture.losses[i],
                1e-5 * std::abs(fixture.losses[i]))
        << "step " << i;
    EXPECT_NEAR(result.norms[i], fixture.norms[i],
                5e-5 * std::abs(fixture.norms[i]))
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

INSTANTIATE_TEST_SUITE_P(Pretrain, Families,
                         ::testing::Values("llama2/pretrain", "llama3/pretrain",
                                           "llama-9q3kv/pretrain",
                                           "llama-deep/pretrain",
                                           "mistral/pretrain", "qwen2/pretrain",
                                           "qwen3/pretrain", "gemma2/pretrain",
                                           "gemma3/pretrain", "gpt2/pretrain"),
                         nameOf);

INSTANTIATE_TEST_SUITE_P(Sft, Families,
                         ::testing::Values("llama2/sft", "llama3/sft",
                                           "llama-9q3kv/sft", "llama-deep/sft",
                                           "mistral/sft", "qwen2/sft",
                                           "qwen3/sft", "gemma2/sft",
                                           "gemma3/sft", "gpt2/sft"),
                         nameOf);

/// A way to cut a step, as options of llmc compile.
struct Arrangement {
  const char* fixture;
  std::vector<std::string> options;
};

class Arrangements : public ::testing::TestWithParam<Arrangement> {};

TEST_P(Arrangements, TenLossesAreThoseOfPyTorch) {
  auto fixture = readTrainingFixture(GetParam().fixture);
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  auto result = runTraining(*fixture, {.options = GetParam().options});
  ASSERT_TRUE(result.ok()) << result.status();
  expectLosses(*fixture, *result);
}

constexpr const char* kSchedules[] = {"gpipe", "1f1b", "interleaved",
                                      "zero-bubble"};

/// Pipelines; llama-deep is tied and has nine layers, which neither 2, 4, 6 nor
/// 8 divides; qwen2 is not tied and has five.
void addPipelines(std::vector<Arrangement>& all) {
  int turn = 0;
  for (std::string schedule : kSchedules)
    for (std::string pp : {"2", "4"}) {
      all.push_back(
          {"llama-deep/pretrain",
           {"--mesh=pp=" + pp, "--schedule=" + schedule, "--microbatches=4"}});
      // Each schedule with each stage of ZeRO, on one of the pipelines.
      for (int zero = turn++ % 2; zero < 4; zero += 2)
        all.push_back({"llama-deep/sft",
                       {"--mesh=dp=3,pp=" + pp, "--schedule=" + schedule,
                        "--microbatches=4", "--zero=" + std::to_string(zero)}});
    }
  for (const char* pp : {"pp=2", "pp=3"})
    all.push_back(
        {"gemma2/sft", {std::string("--mesh=") + pp, "--microbatches=3"}});
  for (const char* fixture : {"qwen2/pretrain", "qwen2/sft"})
    for (const char* recompute : {"none", "full"})
      all.push_back(
          {fixture,
           {"--mesh=pp=2", "--schedule=interleaved", "--microbatches=4",
            std::string("--recompute=") + recompute}});
  // Chunks of one and two layers, a last group of micro-batches, many in
  // flight.
  all.push_back({"llama-deep/sft",
                 {"--mesh=pp=2", "--schedule=interleaved", "--virtual-stages=3",
                  "--microbatches=6"}});
  all.push_back({"llama-deep/sft",
                 {"--mesh=pp=3", "--schedule=interleaved", "--virtual-stages=3",
                  "--microbatches=12"}});
  all.push_back({"llama-deep/sft",
                 {"--mesh=pp=3", "--schedule=interleaved", "--virtual-stages=1",
                  "--microbatches=2"}});
}

std::vector<Arrangement> arrangements() {
  std::vector<Arrangement> all;
  for (const char* fixture : {"llama3/pretrain", "gpt2/sft"}) {
    for (const char* dp : {"dp=4", "dp=3"})
      for (const char* zero : {"0", "1", "2", "3"})
        all.push_back(
            {fixture,
             {std::string("--mesh=") + dp, std::string("--zero=") + zero}});
    for (const char* m : {"2", "4"})
      all.push_back({fixture, {std::string("--microbatches=") + m}});
  }
  for (const char* fixture : {"llama3/pretrain", "gemma2/sft", "qwen2/sft"})
    for (const char* rows : {"true", "false"})
      all.push_back(
          {fixture,
           {"--mesh=tp=2", std::string("--sequence-parallel=") + rows}});
  addPipelines(all);
  for (const char* zero : {"0", "3"})
    all.push_back({"llama-deep/sft",
                   {"--mesh=dp=2,pp=2,tp=2", std::string("--zero=") + zero,
                    "--schedule=zero-bubble", "--microbatches=2"}});
  for (const char* zero : {"1", "2"})
    all.push_back({"llama-deep/sft",
                   {"--mesh=dp=2,pp=2,tp=2", std::string("--zero=") + zero,
                    "--schedule=interleaved", "--microbatches=2"}});
  for (const char* zero : {"0", "3"})
    all.push_back({"llama-deep/sft",
                   {"--mesh=dp=2,pp=2,tp=2", std::string("--zero=") + zero,
                    "--microbatches=2"}});
  for (const char* rows : {"true", "false"})
    all.push_back(
        {"llama-deep/pretrain",
         {"--mesh=tp=2", std::string("--sequence-parallel=") + rows}});
  for (const char* budget : {"20000", "1000000000"})
    all.push_back({"llama-deep/sft",
                   {"--mesh=dp=2,pp=2", "--zero=3", "--microbatches=2",
                    std::string("--zero-live-bytes=") + budget}});
  all.push_back({"llama-deep/pretrain", {"--mesh=tp=4"}});
  all.push_back({"llama3/sft", {"--mesh=tp=4"}});
  all.push_back({"llama-9q3kv/sft", {"--mesh=tp=2,dp=2", "--zero=3"}});
  all.push_back({"llama-9q3kv/sft",
                 {"--mesh=dp=2,pp=2,tp=2", "--zero=2", "--microbatches=2"}});
  return all;
}

std::string
nameOfArrangement(const ::testing::TestParamInfo<Arrangement>& info) {
  return caseName(info.param.fixture, info.param.options);
}

INSTANTIATE_TEST_SUITE_P(Step, Arrangements,
                         ::testing::ValuesIn(arrangements()),
                         nameOfArrangement);

/// Losses and norms of every stage of ZeRO.
std::vector<TrainingResult> runStages(const TrainingFixture& fixture,
                                      std::vector<std::string> options) {
  std::vector<TrainingResult> results;
  for (const char* zero : {"0", "1", "2", "3"}) {
    std::vector<std::string> all = options;
    all.push_back(std::string("--zero=") + zero);
    auto result = runTraining(fixture, {.options = all});
    EXPECT_TRUE(result.ok()) << result.status();
    results.push_back(result.ok() ? *result : TrainingResult());
  }
  return results;
}

TEST(Zero, StagesAgreeToTheLastBit) {
  auto fixture = readTrainingFixture("llama3/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  for (const char* mesh : {"--mesh=dp=4", "--mesh=dp=3"}) {
    auto one = runStages(*fixture, {mesh});
    for (int stage : {1, 2, 3}) {
      EXPECT_EQ(one[0].losses, one[stage].losses) << mesh << " " << stage;
      EXPECT_EQ(one[0].norms, one[stage].norms) << mesh << " " << stage;
    }
  }
  // With several micro-batches the sums of 2 and 3 have another order.
  auto several = runStages(*fixture, {"--mesh=dp=2", "--microbatches=3"});
  EXPECT_EQ(several[0].losses, several[1].losses);
  EXPECT_EQ(several[2].losses, several[3].losses);
}

TEST(Zero, StagesAgreeOnATiedParameterOfTwoPipelineStages) {
  const std::map<std::string, std::vector<std::string>> cases = {
      {"llama-deep/sft", {"--mesh=dp=3,pp=2", "--mesh=dp=2,pp=2,tp=2"}},
      {"gpt2/sft", {"--mesh=dp=2,pp=2"}}};
  for (const auto& [name, meshes] : cases) {
    auto fixture = readTrainingFixture(name);
    ASSERT_TRUE(fixture.ok()) << fixture.status();
    for (const std::string& mesh : meshes) {
      auto one = runStages(*fixture, {mesh});
      for (int stage : {1, 2, 3}) {
        EXPECT_EQ(one[0].losses, one[stage].losses) << name << mesh << stage;
        EXPECT_EQ(one[0].norms, one[stage].norms) << name << mesh << stage;
      }
      expectLosses(*fixture, one[0]);
    }
    auto several =
        runStages(*fixture, {"--mesh=dp=2,pp=2", "--microbatches=2"});
    EXPECT_EQ(several[0].losses, several[1].losses) << name;
    EXPECT_EQ(several[2].losses, several[3].losses) << name;
  }
}

// Neither overlap nor buckets nor a copy that stays change a bit.
TEST(Zero, OverlapBucketsAndKeptCopiesChangeNoBit) {
  auto fixture = readTrainingFixture("gemma2/sft"); // a tied embedding
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  for (const char* zero : {"--zero=0", "--zero=1", "--zero=2", "--zero=3"}) {
    std::vector<std::string> options = {"--mesh=dp=2", "--microbatches=3",
                                        zero};
    auto with = runTraining(*fixture, {.options = options});
    ASSERT_TRUE(with.ok()) << with.status();
    std::vector<std::vector<std::string>> variants = {
        {"--disable=overlap-reductions,prefetch-collectives"},
        {"--zero-bucket-bytes=0"},
        {"--zero-bucket-bytes=6000"}};
    if (zero == std::string("--zero=3"))
      for (const char* budget : {"50000", "1000000000"})
        variants.push_back({std::string("--zero-live-bytes=") + budget});
    for (const auto& variant : variants) {
      std::vector<std::string> all = options;
      all.insert(all.end(), variant.begin(), variant.end());
      auto other = runTraining(*fixture, {.options = all});
      ASSERT_TRUE(other.ok()) << other.status();
      EXPECT_EQ(with->losses, other->losses) << zero << variant[0];
      EXPECT_EQ(with->norms, other->norms) << zero << variant[0];
    }
  }
}

TEST(Bf16, LossesStayNearThoseOfF32) {
  auto fixture = readTrainingFixture("llama3/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  std::vector<TrainingResult> stages = {};
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--dtype=bf16"},
        {"--dtype=bf16", "--mesh=dp=3", "--zero=0"},
        {"--dtype=bf16", "--mesh=dp=3", "--zero=1"},
        {"--dtype=bf16", "--mesh=dp=3", "--zero=2"},
        {"--dtype=bf16", "--mesh=dp=3", "--zero=3"}}) {
    auto result = runTraining(*fixture, {.options = options});
    ASSERT_TRUE(result.ok()) << result.status();
    // Weights have 8 bits: a relative rounding of 2^-9 each, which the layers
    // average; four of them are more than any loss shows.
    for (size_t i = 0; i < result->losses.size(); ++i)
      EXPECT_NEAR(result->losses[i], fixture->losses[i],
                  4.0 / 512 * fixture->losses[i])
          << i;
    stages.push_back(*result);
  }
  for (int stage : {2, 3, 4})
    EXPECT_EQ(stages[1].losses, stages[stage].losses) << stage;
}

TEST(Schedules, ChangeNoBit) {
  auto fixture = readTrainingFixture("llama-deep/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  std::vector<TrainingResult> results;
  for (std::string schedule : kSchedules)
    for (std::string recompute : {"none", "selective", "full"}) {
      if (recompute != "none" && schedule != "interleaved")
        continue;
      auto result =
          runTraining(*fixture, {.options = {"--mesh=pp=2", "--microbatches=4",
                                             "--schedule=" + schedule,
                                             "--recompute=" + recompute}});
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->losses,
                results.empty() ? result->losses : results.front().losses)
          << schedule << " " << recompute;
      EXPECT_EQ(result->norms,
                results.empty() ? result->norms : results.front().norms)
          << schedule << " " << recompute;
      results.push_back(*result);
    }
}

// Transfers run beside the segments. If one of them did not wait for another,
// a slow link would show it.
TEST(Schedules, SlowLinkChangesNoBit) {
  auto fixture = readTrainingFixture("llama-deep/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  for (std::string schedule : kSchedules) {
    TrainingRequest request;
    request.options = {"--mesh=pp=4", "--microbatches=4",
                       "--schedule=" + schedule};
    request.numSteps = 3;
    auto fast = runTraining(*fixture, request);
    ASSERT_TRUE(fast.ok()) << fast.status();
    request.link.latencySeconds = 0.002;
    auto slow = runTraining(*fixture, request);
    ASSERT_TRUE(slow.ok()) << slow.status();
    EXPECT_EQ(fast->losses, slow->losses) << schedule;
    EXPECT_EQ(fast->norms, slow->norms) << schedule;
  }
}

TEST(Recomputation, ChangesNoBit) {
  for (const char* name : {"llama3/pretrain", "gemma3/sft", "gpt2/sft"})
    for (const char* mesh : {"--mesh=dp=1", "--mesh=tp=2"}) {
      auto fixture = readTrainingFixture(name);
      ASSERT_TRUE(fixture.ok()) << fixture.status();
      std::vector<TrainingResult> results;
      for (const char* mode : {"none", "selective", "full"}) {
        auto result = runTraining(
            *fixture, {.options = {mesh, std::string("--recompute=") + mode}});
        ASSERT_TRUE(result.ok()) << result.status();
        results.push_back(*result);
      }
      for (int i : {1, 2}) {
        EXPECT_EQ(results[0].losses, results[i].losses) << name << mesh << i;
        EXPECT_EQ(results[0].norms, results[i].norms) << name << mesh << i;
      }
    }
}

} // namespace
} // namespace llmrt
