// SPDX-License-Identifier: Apache-2.0
// Training plans for cuda without a GPU: the losses and gradient norms of
// several steps, and the evaluations before them, are those of the cpu plan, on
// one rank and on meshes whose ranks are threads.
#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "tests/e2e/EmulatedPlan.h"
#include "tests/e2e/TrainingRunner.h"

#include <gtest/gtest.h>

#include <cmath>

namespace llmrt {
namespace {

using testing::readTrainingFixture;

/// The bound for f32.
constexpr double kLossBound = 1e-5;
/// Of norms, whose squares add up over all parameters: as TrainingLossTest.
constexpr double kNormBound = 5e-5;
/// bf16: both plans round weights alike, and a GPU also rounds what its tensor
/// cores multiply, by 2^-9 of itself as weights are. The layers average these
/// roundings; four of them are more than rounded weights show of any loss
/// (TrainingLossTest), and the other factor is rounded alike.
constexpr double kBf16LossBound = 4.0 / 512;
/// A gradient goes through each layer twice, and a norm is its size.
constexpr double kBf16NormBound = 2 * kBf16LossBound;

/// Of Adam's first moments, which are sums of gradients, as a relative norm:
/// one element's gradient may be small where those that it is made of are not.
constexpr double kMomentBound = 1e-4;
constexpr double kBf16MomentBound = 0.1;

struct Case {
  std::string fixture;
  std::vector<std::string> options;
  int numSteps = 2; // the second has the weights that the first made
};

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
void PrintTo(const Case& c, std::ostream* os) {
  *os << caseName(c.fixture, c.options);
}

bool has(const Case& c, const std::string& part) {
  for (const std::string& option : c.options)
    if (option.find(part) != std::string::npos)
      return true;
  return false;
}

class EmulatedCudaTraining : public ::testing::TestWithParam<Case> {};

class EmulatedCudaLibraryTraining : public ::testing::TestWithParam<Case> {};

void expectNear(const std::vector<double>& actual,
                const std::vector<double>& expected, double bound,
                const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double size = std::abs(expected[i]);
    EXPECT_NEAR(actual[i], expected[i], bound * size)
        << what << " of step " << i;
    largest = std::max(largest, std::abs(actual[i] - expected[i]) / size);
  }
  ::testing::Test::RecordProperty(what, std::to_string(largest));
}

void expectNearMoments(const testing::GradientsByName& actual,
                       const testing::GradientsByName& expected, double bound) {
  ASSERT_EQ(actual.size(), expected.size());
  double scale = 0; // of all parameters
  for (const auto& [name, values] : expected)
    for (float x : values)
      scale += std::pow(double{x}, 2);
  for (const auto& [name, values] : expected) {
    const std::vector<float>& other = actual.at(name);
    ASSERT_EQ(other.size(), values.size()) << name;
    double error = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(double{other[i]} - values[i], 2);
      size += std::pow(double{values[i]}, 2);
    }
    EXPECT_LT(std::sqrt(error / std::max(size, 1e-6 * scale)), bound) << name;
  }
}

/// Runs the plan `plan`, which it compiles, and the cpu plan.
void expectLossesOfCpu(const Case& c, EmulatedPlan& plan) {
  auto fixture = readTrainingFixture(c.fixture);
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  TrainingRequest request;
  request.options = c.options;
  request.numSteps = c.numSteps;
  request.checkMemory = false;
  request.readMoments = true;
  auto cpu = runTraining(*fixture, request);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  absl::Status compiled = plan.compile(
      fixture->checkpoint, trainingOptions(*fixture, request.options));
  ASSERT_TRUE(compiled.ok()) << compiled;
  request.plan = plan.path();
  const bool isMesh = has(c, "--mesh=");
  plan.features.hasWgmma = !isMesh; // the plans of a mesh run on older GPUs
  request.device = [&](const fb::Stage& stage) {
    return plan.createDevice(stage, /*sharesHostMemory=*/isMesh);
  };
  auto cuda = runTraining(*fixture, request);
  ASSERT_TRUE(cuda.ok()) << cuda.status();
  const bool isBf16 = has(c, "--dtype=bf16");
  expectNear(cuda->losses, cpu->losses, isBf16 ? kBf16LossBound : kLossBound,
             "loss");
  expectNear(cuda->norms, cpu->norms, isBf16 ? kBf16NormBound : kNormBound,
             "norm");
  expectNearMoments(cuda->moments, cpu->moments,
                    isBf16 ? kBf16MomentBound : kMomentBound);
  // Steps teach something: none is the one before.
  for (size_t i = 1; i < cuda->losses.size(); ++i)
    EXPECT_NE(cuda->losses[i], cuda->losses[i - 1]);
}

TEST_P(EmulatedCudaTraining, GivesTheLossesOfTheCpu) {
  EmulatedPlan plan;
  expectLossesOfCpu(GetParam(), plan);
}

// Forward and gradients; within the bounds of mma.sync, as the library gets
// factors that are rounded alike.
TEST_P(EmulatedCudaLibraryTraining, GivesTheLossesOfTheCpu) {
  EmulatedPlan plan;
  plan.hasCublasLt = true;
  expectLossesOfCpu(GetParam(), plan);
  const bool isBf16 = has(GetParam(), "--dtype=bf16");
  EXPECT_EQ(plan.numLibraryGradients() > 0, isBf16);
  EXPECT_EQ(plan.numLibraryLaunches() > plan.numLibraryGradients(), isBf16);
}

// The first step and the first evaluation run command by command, the second
// ones are captured, and all after them are one command each: with the same
// bits, on new inputs, with micro-batches and recomputation.
TEST(EmulatedCudaStepGraphs, GiveTheBitsOfSingleCommands) {
  auto fixture = readTrainingFixture("llama3/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--dtype=bf16"},
        {"--microbatches=2", "--recompute=full"}}) {
    EmulatedPlan plan;
    plan.hasCublasLt = true;
    absl::Status compiled =
        plan.compile(fixture->checkpoint, trainingOptions(*fixture, options));
    ASSERT_TRUE(compiled.ok()) << compiled;
    TrainingRequest request;
    request.numSteps = 3;
    request.checkMemory = false;
    request.readMoments = true;
    request.plan = plan.path();
    request.device = [&](const fb::Stage& stage) {
      return plan.createDevice(stage, /*sharesHostMemory=*/false);
    };
    request.usesGraphs = false;
    auto commands = runTraining(*fixture, request);
    ASSERT_TRUE(commands.ok()) << commands.status();
    EXPECT_EQ(plan.numReplays(), 0);
    const int64_t numLaunches = plan.numLaunches();
    request.usesGraphs = true;
    auto graphs = runTraining(*fixture, request);
    ASSERT_TRUE(graphs.ok()) << graphs.status();
    EXPECT_EQ(plan.numReplays(), 2 * 2);
    // The first two of three were launched by the host; and the rotary table,
    // once.
    EXPECT_EQ(plan.numLaunches() - numLaunches, 1 + (numLaunches - 1) / 3 * 2);
    EXPECT_EQ(graphs->losses, commands->losses);
    EXPECT_EQ(graphs->norms, commands->norms);
    EXPECT_EQ(graphs->moments, commands->moments);
  }
}

/// What one step of a training plan gives, compiled with these options.
absl::StatusOr<TrainingResult>
runOneStep(const testing::TrainingFixture& fixture,
           const std::vector<std::string>& options, EmulatedPlan& plan) {
  LLMRT_RETURN_IF_ERROR(
      plan.compile(fixture.checkpoint, trainingOptions(fixture, options)));
  TrainingRequest request;
  request.options = options;
  request.numSteps = 1;
  request.checkMemory = false;
  request.readMoments = true;
  request.plan = plan.path();
  request.device = [&](const fb::Stage& stage) {
    return plan.createDevice(stage, /*sharesHostMemory=*/true);
  };
  return runTraining(fixture, request);
}

bool hasRoundingKernels(const EmulatedPlan& emulated) {
  auto file = MappedFile::open(emulated.path());
  EXPECT_TRUE(file.ok()) << file.status();
  auto plan = readPlan(file->bytes());
  EXPECT_TRUE(plan.ok()) << plan.status();
  bool has = false;
  for (const fb::Kernel* kernel : *(*plan)->kernels())
    has |= kernel->name()->str().find("round_") != std::string::npos;
  return has;
}

// Factors that are rounded where they are made, and saved so, are those that
// each product rounds for itself: across forward and backward, ranks and
// stages, and where weight gradients wait (zero-bubble).
TEST(EmulatedCudaRounding, GivesTheBitsOfProductsThatRound) {
  auto fixture = readTrainingFixture("llama3/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  const std::pair<std::vector<std::string>, bool> cases[] = {
      {{}, false},
      {{"--mesh=tp=2", "--recompute=full"}, true},
      {{"--mesh=pp=2", "--microbatches=2", "--schedule=zero-bubble"}, true}};
  for (const auto& [options, hasCublasLt] : cases) {
    std::vector<std::string> with = options;
    with.push_back("--dtype=bf16");
    std::vector<std::string> without = with;
    without.push_back("--disable=round-factors");
    SCOPED_TRACE(caseName("pretrain", with));
    EmulatedPlan rounding, plain;
    rounding.hasCublasLt = plain.hasCublasLt = hasCublasLt;
    auto result = runOneStep(*fixture, with, rounding);
    ASSERT_TRUE(result.ok()) << result.status();
    auto expected = runOneStep(*fixture, without, plain);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_TRUE(hasRoundingKernels(rounding));
    EXPECT_FALSE(hasRoundingKernels(plain));
    EXPECT_EQ(result->losses, expected->losses);
    EXPECT_EQ(result->norms, expected->norms);
    EXPECT_EQ(result->moments, expected->moments);
  }
}

// What is saved and loaded goes through copies: the host does not reach the
// device's memory.
TEST(EmulatedCudaCheckpoint, LoadsWhatItSaved) {
  auto fixture = readTrainingFixture("llama3/pretrain");
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  EmulatedPlan plan;
  absl::Status compiled = plan.compile(
      fixture->checkpoint, trainingOptions(*fixture, {"--dtype=bf16"}));
  ASSERT_TRUE(compiled.ok()) << compiled;
  TrainingRequest request;
  request.numSteps = 1;
  request.checkMemory = false;
  request.repeatSteps = true;
  request.plan = plan.path();
  request.device = [&](const fb::Stage& stage) {
    return plan.createDevice(stage, /*sharesHostMemory=*/false);
  };
  auto result = runTraining(*fixture, request);
  ASSERT_TRUE(result.ok()) << result.status();
}

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"llama3/pretrain", {}},
      {"llama3/pretrain", {"--microbatches=2", "--recompute=full"}, 1},
      {"gemma2/sft", {}, 1},
      {"gpt2/sft", {}, 1},
      {"qwen3/pretrain", {"--recompute=selective"}, 1},
      {"llama-deep/dpo", {}, 1},
      {"llama-deep/dpo", {"--reference=precompute"}, 1},
      {"llama3/pretrain", {"--dtype=bf16"}},
      {"gemma2/sft", {"--dtype=bf16", "--microbatches=2"}, 1},
      {"llama-deep/dpo", {"--dtype=bf16"}, 1},
      {"llama3/pretrain", {"--mesh=tp=2"}, 1},
      {"gemma2/sft", {"--mesh=tp=2", "--sequence-parallel=false"}, 1},
      {"llama3/pretrain", {"--mesh=tp=2", "--dtype=bf16"}, 1},
      {"gemma2/sft", {"--mesh=pp=2", "--microbatches=3"}, 1},
      {"llama3/sft",
       {"--mesh=pp=2", "--microbatches=2", "--schedule=zero-bubble"},
       1},
      {"llama3/sft",
       {"--mesh=pp=2", "--microbatches=2", "--schedule=gpipe"},
       1},
      {"qwen2/sft",
       {"--mesh=pp=2", "--microbatches=2", "--schedule=interleaved"},
       1},
      {"llama-deep/dpo", {"--mesh=dp=2,pp=2", "--zero=2"}, 1},
      {"llama3/sft", {"--mesh=dp=2", "--zero=3", "--dtype=bf16"}}};
  for (const char* zero : {"--zero=0", "--zero=1", "--zero=2", "--zero=3"})
    all.push_back({"llama3/sft", {"--mesh=dp=2", "--microbatches=2", zero}});
  return all;
}

std::vector<Case> libraryCases() {
  return {{"llama3/pretrain", {}, 1},
          {"llama3/pretrain", {"--dtype=bf16"}, 1},
          {"gemma2/sft", {"--dtype=bf16", "--microbatches=2"}, 1},
          {"gpt2/sft", {"--dtype=bf16"}, 1},
          {"llama3/pretrain", {"--mesh=tp=2", "--dtype=bf16"}, 1},
          {"llama3/sft", {"--mesh=dp=2", "--zero=3", "--dtype=bf16"}, 1}};
}

std::string nameOf(const ::testing::TestParamInfo<Case>& info) {
  return caseName(info.param.fixture, info.param.options);
}

INSTANTIATE_TEST_SUITE_P(Steps, EmulatedCudaTraining,
                         ::testing::ValuesIn(cases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Steps, EmulatedCudaLibraryTraining,
                         ::testing::ValuesIn(libraryCases()), nameOf);

} // namespace
} // namespace llmrt
