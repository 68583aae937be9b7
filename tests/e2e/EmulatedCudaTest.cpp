// SPDX-License-Identifier: Apache-2.0
// Whole plans for cuda without a GPU: the executor's commands on a device that
// runs hand-tuned kernels from their sources and generated ones from their LLVM
// IR, a fiber for each thread of a block. Every family's tiny model gives the
// logits that its plan for cpu gives, in prefill, decode and scoring.
#include "tests/e2e/EmulatedPlan.h"
#include "tests/e2e/PlanRunner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

namespace llmrt {
namespace {

// The bound for float32: of the largest logit.
constexpr double kFloat32Bound = 1e-5;

constexpr int kNumTokens = 33;
constexpr int kChunk = 24;   // rows enough for the kernels of many rows
constexpr int kPrefill = 29; // a whole chunk and a part of one

// With bf16 weights and caches both plans round those alike, and a GPU also
// rounds what its tensor cores multiply, by at most 2^-9 of itself (8 bits of
// significand): in each layer the inputs of the four products, queries and
// probabilities, and the input of the head. Caches hold bf16 keys and values
// of inputs that differ, so each may move by a step of 2^-8: as four more.
const double kMostRounding = std::ldexp(1.0, -9);

double numRoundings(int numLayers) { return 10.0 * numLayers + 1; }

// First order: the roundings of a path add up.
double mostError(int numLayers) {
  return numRoundings(numLayers) * kMostRounding;
}

// Independent roundings add up as squares, of the root mean square logit; a
// softmax of scores of a few units doubles them (Bf16Test.cpp).
double typicalError(int numLayers) {
  return 2 * std::sqrt(numRoundings(numLayers) / 3) * kMostRounding;
}

double rootMeanSquareError(const Logits& a, const Logits& reference) {
  double error = 0, scale = 0;
  for (size_t r = 0; r < reference.size(); ++r)
    for (size_t c = 0; c < reference[r].size(); ++c) {
      error += std::pow(double(a[r][c]) - reference[r][c], 2);
      scale += std::pow(double(reference[r][c]), 2);
    }
  return std::sqrt(error / scale);
}

/// Runs a plan on emulated devices.
absl::StatusOr<RunResult> runEmulated(EmulatedPlan& plan, RunRequest request,
                                      bool sharesHostMemory = false) {
  request.plan = plan.path();
  request.device = [&, sharesHostMemory](const fb::Stage& stage) {
    return plan.createDevice(stage, sharesHostMemory);
  };
  return runPlan(request);
}

struct Case {
  const char* fixture;
  int numLayers;
  const char* dtype;
};

void PrintTo(const Case& c, std::ostream* os) {
  *os << c.fixture << " " << c.dtype;
}

class EmulatedCuda : public testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    std::string folder = environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" +
                         GetParam().fixture;
    request_.weights = folder;
    request_.tokens = readTokens(folder + "/tokens.json", "tokens");
    ASSERT_GT(request_.tokens.size(), size_t(kNumTokens));
    request_.tokens.resize(kNumTokens);
    std::vector<std::string> options = {
        "--seq=64", "--chunk=" + std::to_string(kChunk), "--batch=2",
        std::string("--dtype=") + GetParam().dtype};
    absl::Status compiled = compilePlan(folder, cpuPlan_, options);
    ASSERT_TRUE(compiled.ok()) << compiled;
    compiled = cuda_.compile(folder, options);
    ASSERT_TRUE(compiled.ok()) << compiled;
  }

  void TearDown() override { std::filesystem::remove(cpuPlan_); }

  bool isFloat32() const { return std::string(GetParam().dtype) == "f32"; }

  /// Runs both plans and compares.
  void expectSame(RunRequest request, const char* what) {
    SCOPED_TRACE(what);
    request.plan = cpuPlan_;
    absl::StatusOr<RunResult> cpu = runPlan(request);
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    absl::StatusOr<RunResult> cuda = runEmulated(cuda_, request);
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    const double error = relativeError(cuda->logits, cpu->logits);
    RecordProperty(what, std::to_string(error));
    const double bound =
        isFloat32() ? kFloat32Bound : mostError(GetParam().numLayers);
    EXPECT_LT(error, bound);
    if (!isFloat32()) {
      EXPECT_LT(rootMeanSquareError(cuda->logits, cpu->logits),
                typicalError(GetParam().numLayers));
    }
    ASSERT_EQ(cuda->sampled.size(), cpu->sampled.size());
    for (size_t i = 0; i < cpu->sampled.size(); ++i)
      if (isFloat32() || isClear(cpu->logits, i, bound)) {
        EXPECT_EQ(cuda->sampled[i], cpu->sampled[i]) << "row " << i;
      }
  }

  /// True if no error within the bound makes another logit the largest.
  static bool isClear(const Logits& logits, size_t row, double bound) {
    double scale = 0;
    for (const std::vector<float>& r : logits)
      for (float x : r)
        scale = std::max(scale, std::abs(double(x)));
    std::vector<float> sorted = logits[row];
    std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(),
                      std::greater<float>());
    return sorted[0] - sorted[1] > 2 * bound * scale;
  }

  RunRequest request_;
  std::string cpuPlan_ = temporaryPath("cpu.fb");
  EmulatedPlan cuda_;
};

TEST_P(EmulatedCuda, GivesTheLogitsOfTheCpu) {
  RunRequest request = request_;
  request.prefill = kPrefill;
  request.greedy = isFloat32() ? 3 : 0; // else it may go other ways
  expectSame(request, "prefill_decode");
  request.greedy = 0;
  request.chunk = 7; // valid rows are a part of the grid, in every call
  request.slot = 1;
  request.hasCompanions = true;
  expectSame(request, "second_sequence");
  request = request_;
  request.score = true;
  expectSame(request, "score");
}

constexpr Case kCases[] = {
    {"llama2", 3, "f32"},      {"llama3", 3, "f32"},
    {"llama-9q3kv", 3, "f32"}, {"mistral", 3, "f32"},
    {"qwen2", 5, "f32"},       {"qwen3", 3, "f32"},
    {"gemma2", 3, "f32"},      {"gemma3", 5, "f32"},
    {"gpt2", 3, "f32"},        {"llama-9q3kv", 3, "bf16"},
    {"llama3", 3, "bf16"},     {"qwen2", 5, "bf16"},
    {"qwen3", 3, "bf16"},      {"gemma2", 3, "bf16"},
    {"gemma3", 5, "bf16"},     {"gpt2", 3, "bf16"},
};

/// Ranks as threads with a device each, which the host's memory connects.
class EmulatedCudaMesh : public testing::TestWithParam<const char*> {};

TEST_P(EmulatedCudaMesh, GivesTheLogitsOfTheCpu) {
  std::string folder =
      environment("LLMC_SOURCE_DIR") + "/tests/fixtures/llama-9q3kv";
  std::string cpuPlan = temporaryPath("cpu.fb");
  EmulatedPlan cuda;
  std::vector<std::string> options = {"--seq=64", "--chunk=24", GetParam()};
  absl::Status compiled = compilePlan(folder, cpuPlan, options);
  ASSERT_TRUE(compiled.ok()) << compiled;
  compiled = cuda.compile(folder, options);
  ASSERT_TRUE(compiled.ok()) << compiled;
  RunRequest request;
  request.weights = folder;
  request.tokens = readTokens(folder + "/tokens.json", "tokens");
  request.tokens.resize(kNumTokens);
  request.prefill = kPrefill;
  request.greedy = 2;
  request.plan = cpuPlan;
  absl::StatusOr<RunResult> onCpu = runPlan(request);
  std::filesystem::remove(cpuPlan);
  ASSERT_TRUE(onCpu.ok()) << onCpu.status();
  absl::StatusOr<RunResult> onCuda =
      runEmulated(cuda, request, /*sharesHostMemory=*/true);
  ASSERT_TRUE(onCuda.ok()) << onCuda.status();
  EXPECT_LT(relativeError(onCuda->logits, onCpu->logits), kFloat32Bound);
  EXPECT_EQ(onCuda->sampled, onCpu->sampled);
}

INSTANTIATE_TEST_SUITE_P(Meshes, EmulatedCudaMesh,
                         testing::Values("--mesh=tp=2", "--mesh=tp=3",
                                         "--mesh=pp=2", "--mesh=dp=2 --zero=3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(
                               name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

INSTANTIATE_TEST_SUITE_P(Families, EmulatedCuda, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& info) {
                           std::string name = std::string(info.param.fixture) +
                                              "_" + info.param.dtype;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

} // namespace
} // namespace llmrt
