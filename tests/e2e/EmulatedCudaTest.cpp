// SPDX-License-Identifier: Apache-2.0
// Whole plans for cuda without a GPU: the executor's commands on a device that
// runs hand-tuned kernels from their sources and generated ones from their LLVM
// IR, a fiber for each thread of a block. Every family's tiny model gives the
// logits that its plan for cpu gives, in prefill, decode and scoring.
#include "tests/e2e/CudaLogProbabilities.h"
#include "tests/e2e/CudaParity.h"
#include "tests/e2e/EmulatedPlan.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace llmrt {
namespace {

class EmulatedCuda : public ::testing::TestWithParam<CudaCase> {
protected:
  void SetUp() override {
    const CudaCase& c = GetParam();
    absl::Status compiled =
        compilePlan(c.modelPath(), cpuPlan_, c.compileOptions(false));
    ASSERT_TRUE(compiled.ok()) << compiled;
    compiled = cuda_.compile(c.modelPath(), c.compileOptions(true));
    ASSERT_TRUE(compiled.ok()) << compiled;
  }

  void TearDown() override { std::filesystem::remove(cpuPlan_); }

  std::string cpuPlan_ = temporaryPath("cpu.fb");
  EmulatedPlan cuda_;
};

TEST_P(EmulatedCuda, GivesTheLogitsOfTheCpu) {
  // Ranks are threads with a device each, which the host's memory connects.
  expectLogitsOfCpu(GetParam(), cpuPlan_, [&](RunRequest request) {
    return cuda_.run(std::move(request),
                     /*sharesHostMemory=*/*GetParam().mesh != 0);
  });
}

class EmulatedCudaFamily : public EmulatedCuda {};

// As on a GPU of sm_90 with cuBLASLt. Prefill and scoring have rows enough;
// weights and caches that are not bf16 never go there.
TEST_P(EmulatedCudaFamily, CublasLtAndWgmmaGiveTheLogitsOfTheCpu) {
  cuda_.hasCublasLt = true;
  cuda_.features.hasWgmma = true;
  int64_t numByLibrary = 0, numByWgmma = 0;
  expectLogitsOfCpu(GetParam(), cpuPlan_, [&](RunRequest request) {
    absl::StatusOr<RunResult> result = cuda_.run(std::move(request));
    numByLibrary += cuda_.numLibraryLaunches();
    numByWgmma += cuda_.numWgmmaLaunches();
    return result;
  });
  EXPECT_EQ(numByLibrary > 0, std::string(GetParam().dtype) == "bf16");
  EXPECT_EQ(numByWgmma > 0, std::string(GetParam().dtype) == "bf16");
}

// Every call but the first two of its kind is a graph, with the same bits.
TEST_P(EmulatedCudaFamily, GraphsGiveTheBitsOfSingleCommands) {
  RunRequest request;
  request.weights = GetParam().modelPath();
  request.tokens = readTokens(GetParam().folder() + "/tokens.json", "tokens");
  request.tokens.resize(13);
  request.prefill = 7;
  request.chunk = 7;
  request.greedy = 3;
  request.usesGraphs = false;
  absl::StatusOr<RunResult> commands = cuda_.run(request);
  ASSERT_TRUE(commands.ok()) << commands.status();
  EXPECT_EQ(cuda_.numReplays(), 0);
  const int64_t numLaunches = cuda_.numLaunches();
  request.usesGraphs = true;
  absl::StatusOr<RunResult> graphs = cuda_.run(request);
  ASSERT_TRUE(graphs.ok()) << graphs.status();
  EXPECT_EQ(graphs->logits, commands->logits);
  EXPECT_EQ(graphs->sampled, commands->sampled);
  // One graph for each decoded token but the first, which the second one made.
  const int64_t numDecoded =
      request.tokens.size() - request.prefill + request.greedy;
  EXPECT_EQ(cuda_.numReplays(), numDecoded - 1);
  // What remains: the first prefill and two decodes, instead of them all.
  EXPECT_LT(cuda_.numLaunches(), numLaunches / 2);
}

class EmulatedCudaReplays : public EmulatedCuda {};

TEST_P(EmulatedCudaReplays, HaveProductsOfTheirInputs) {
  cuda_.hasCublasLt = true;
  int64_t numReplays = 0, numByLibrary = 0;
  expectReplaysOfProducts(GetParam(), cpuPlan_, [&](RunRequest request) {
    absl::StatusOr<RunResult> result = cuda_.run(std::move(request));
    numReplays += cuda_.numReplays();
    numByLibrary += cuda_.numLibraryLaunches();
    return result;
  });
  EXPECT_GT(numReplays, 0);
  EXPECT_GT(numByLibrary, 0);
}

class EmulatedCudaProbabilities : public EmulatedCuda {};

TEST_P(EmulatedCudaProbabilities, OfTrainingAndScoringAreThoseOfTheCpu) {
  EmulatedPlan training;
  absl::Status compiled =
      training.compile(GetParam().modelPath(), probabilityOptions(GetParam()));
  ASSERT_TRUE(compiled.ok()) << compiled;
  const bool isMesh = *GetParam().mesh != 0;
  expectLogProbabilitiesOfCpu(
      GetParam(), cpuPlan_,
      [&](RunRequest request) {
        return cuda_.run(std::move(request), /*sharesHostMemory=*/isMesh);
      },
      [&](const testing::TrainingFixture& fixture, TrainingRequest request) {
        request.plan = training.path();
        request.device = [&](const fb::Stage& stage) {
          return training.createDevice(stage, /*sharesHostMemory=*/isMesh);
        };
        return runTraining(fixture, request);
      });
}

std::string nameOf(const ::testing::TestParamInfo<CudaCase>& info) {
  return info.param.name();
}

INSTANTIATE_TEST_SUITE_P(Families, EmulatedCuda,
                         ::testing::ValuesIn(cudaCases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Families, EmulatedCudaFamily,
                         ::testing::ValuesIn(cudaCases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Blocks, EmulatedCuda,
                         ::testing::ValuesIn(cudaBlockCases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Meshes, EmulatedCuda,
                         ::testing::ValuesIn(cudaMeshCases()), nameOf);

INSTANTIATE_TEST_SUITE_P(Replays, EmulatedCudaReplays,
                         ::testing::ValuesIn(cudaReplayCases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Probabilities, EmulatedCudaProbabilities,
                         ::testing::ValuesIn(cudaProbabilityCases()), nameOf);

} // namespace
} // namespace llmrt
