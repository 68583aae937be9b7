// SPDX-License-Identifier: Apache-2.0
// Whole plans on a GPU: every family's tiny model on one rank, and cut over
// ranks that are threads and share the GPU, gives the logits of its plan for
// cpu, and the same bits again, with graphs and without; products of cuBLASLt
// in graphs that are replayed; log-probabilities of training plans; a real
// text; some also with the check of memory. Plans are compiled by llmc, or were
// compiled elsewhere and lie in the folder $LLMC_GPU_PLANS, as --list-plans
// names them.
#include "runtime/device/cublaslt/LtTable.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"
#include "tests/e2e/CudaLogProbabilities.h"
#include "tests/e2e/CudaParity.h"
#include "tests/e2e/Stories.h"
#include "tests/support/cuda/TestGpu.h"
#include "tools/llmrt/RankFabrics.h"

#include "absl/strings/str_join.h"
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <filesystem>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

/// How llmc compiles a plan.
struct PlanRecipe {
  std::string name;  // of the file
  std::string model; // in the source tree, or absolute
  std::vector<std::string> options;
};

PlanRecipe recipe(const std::string& name, const CudaCase& c,
                  const std::string& target, std::vector<std::string> options) {
  options.push_back("--target=" + target);
  return {name + "." + target + ".fb", "tests/fixtures/" + c.model(), options};
}

PlanRecipe inferenceRecipe(const CudaCase& c, const std::string& target) {
  return recipe(c.name(), c, target, c.compileOptions(target == "cuda"));
}

PlanRecipe trainingRecipe(const CudaCase& c) {
  return recipe(probabilityName(c), c, "cuda", probabilityOptions(c));
}

PlanRecipe storiesRecipe() {
  std::vector<std::string> options = storiesOptions();
  options.emplace_back("--target=cuda");
  return {"stories260K.cuda.fb", storiesFolder() + "/" + kStoriesModel,
          options};
}

/// A plan, made or found.
class CasePlan {
public:
  explicit CasePlan(const PlanRecipe& recipe) {
    const std::string& name = recipe.name;
    const std::string folder = environment("LLMC_GPU_PLANS");
    if (!folder.empty()) {
      path_ = folder + "/" + name;
      if (!fs::exists(path_))
        skipReason = "no plan " + name + " was brought here";
      return;
    }
    path_ = temporaryPath(name);
    isOwn_ = true;
    if (!fs::exists(environment("LLMC_BIN_DIR") + "/llmc")) {
      skipReason = "no llmc in LLMC_BIN_DIR and no plans in LLMC_GPU_PLANS";
      return;
    }
    const fs::path root = environment("LLMC_SOURCE_DIR");
    status = compilePlan(root / recipe.model, path_, recipe.options);
  }

  ~CasePlan() {
    if (isOwn_)
      fs::remove(path_);
  }

  CasePlan(const CasePlan&) = delete;
  CasePlan& operator=(const CasePlan&) = delete;

  const std::string& path() const { return path_; }

  std::string skipReason;
  absl::Status status;

private:
  std::string path_;
  bool isOwn_ = false;
};

/// A tuning cache of a case: its runs multiply by the same algorithms, which
/// timing would choose anew each time, and other ones may have other bits.
class TunedOnce {
public:
  explicit TunedOnce(const std::string& name)
      : path(temporaryPath(name + ".tuned.json")) {
    fs::remove(path);
  }

  ~TunedOnce() { fs::remove(path); }

  TunedOnce(const TunedOnce&) = delete;
  TunedOnce& operator=(const TunedOnce&) = delete;

  const std::string path;
};

/// Devices that are made in its time launch no kernel before the one before it
/// has ended.
class WithoutEarlyLaunches {
public:
  WithoutEarlyLaunches() : was_(environment(kCudaEarlyLaunchVariable)) {
    ::setenv(kCudaEarlyLaunchVariable, "off", 1);
  }

  ~WithoutEarlyLaunches() {
    ::setenv(kCudaEarlyLaunchVariable, was_.c_str(), 1);
  }

  WithoutEarlyLaunches(const WithoutEarlyLaunches&) = delete;
  WithoutEarlyLaunches& operator=(const WithoutEarlyLaunches&) = delete;

private:
  const std::string was_; // "" is as if it were not set
};

class PlansOnGpu : public ::testing::TestWithParam<CudaCase> {
protected:
  // Not before it is known that there is a GPU.
  void SetUp() override {
    use(cpu_, inferenceRecipe(case_, "cpu"));
    use(cuda_, inferenceRecipe(case_, "cuda"));
    tuned_ = std::make_unique<TunedOnce>(case_.name());
  }

  /// Makes or finds a plan. Without one the test is skipped, or fails.
  void use(std::unique_ptr<CasePlan>& plan, const PlanRecipe& recipe) {
    plan = std::make_unique<CasePlan>(recipe);
    if (!plan->skipReason.empty())
      GTEST_SKIP() << plan->skipReason;
    ASSERT_TRUE(plan->status.ok()) << plan->status;
  }

  /// Runs the cuda plan on the one GPU.
  absl::StatusOr<RunResult> runCuda(RunRequest request) {
    request.plan = cuda_->path();
    request.tuningCache = tuned_->path;
    request.fabrics = onOneGpu;
    return runPlan(request);
  }

  static absl::StatusOr<std::vector<std::unique_ptr<Fabric>>>
  onOneGpu(const fb::Plan& plan, const FabricOptions& options) {
    return createThreadFabrics(plan, /*gpu=*/0, options);
  }

  const CudaCase& case_ = GetParam();
  std::unique_ptr<CasePlan> cpu_, cuda_;
  std::unique_ptr<TunedOnce> tuned_;
};

TEST_P(PlansOnGpu, GiveTheLogitsOfTheCpuTwice) {
  // Ranks choose side by side, each for itself, until there is a file.
  const bool mustTuneFirst = *case_.mesh && std::string(case_.dtype) == "bf16";
  expectLogitsOfCpu(case_, cpu_->path(), [&](RunRequest request) {
    if (mustTuneFirst)
      (void)runCuda(request);
    absl::StatusOr<RunResult> first = runCuda(request);
    for (bool usesGraphs : {true, false}) {
      request.usesGraphs = usesGraphs;
      absl::StatusOr<RunResult> again = runCuda(request);
      if (first.ok() && again.ok()) {
        EXPECT_EQ(describeOtherLogits(first->logits, again->logits), "")
            << "graphs " << usesGraphs;
      }
    }
    request.usesGraphs = true;
    const WithoutEarlyLaunches without;
    absl::StatusOr<RunResult> again = runCuda(request);
    if (first.ok() && again.ok()) {
      EXPECT_EQ(describeOtherLogits(first->logits, again->logits), "")
          << "without early launches";
    }
    return first;
  });
}

class ReplaysOnGpu : public PlansOnGpu {};

TEST_P(ReplaysOnGpu, HaveProductsOfTheirInputs) {
  absl::StatusOr<std::optional<LtTable>> library = findLtTable();
  ASSERT_TRUE(library.ok()) << library.status();
  if (!*library)
    GTEST_SKIP() << "cuBLASLt is not used here";
  expectReplaysOfProducts(case_, cpu_->path(), [&](RunRequest request) {
    return runCuda(std::move(request));
  });
  EXPECT_TRUE(fs::exists(tuned_->path)) << "the library multiplied nothing";
}

class ProbabilitiesOnGpu : public PlansOnGpu {
protected:
  void SetUp() override {
    PlansOnGpu::SetUp();
    use(training_, trainingRecipe(case_));
  }

  std::unique_ptr<CasePlan> training_;
};

TEST_P(ProbabilitiesOnGpu, OfTrainingAndScoringAreThoseOfTheCpu) {
  expectLogProbabilitiesOfCpu(
      case_, cpu_->path(),
      [&](RunRequest request) { return runCuda(std::move(request)); },
      [&](const testing::TrainingFixture& fixture, TrainingRequest request) {
        request.plan = training_->path();
        request.tuningCache = tuned_->path;
        request.fabrics = onOneGpu;
        return runTraining(fixture, request);
      });
}

// 200 tokens of a real text, decoded one by one.
TEST(StoriesOnGpu, Stories260K) {
  if (storiesFolder().empty())
    GTEST_SKIP() << "no stories260K in LLMC_TEST_DATA";
  const CasePlan plan(storiesRecipe());
  if (!plan.skipReason.empty())
    GTEST_SKIP() << plan.skipReason;
  ASSERT_TRUE(plan.status.ok()) << plan.status;
  const TunedOnce tuned("stories260K");
  expectGoldenStory([&](RunRequest request) {
    request.plan = plan.path();
    request.tuningCache = tuned.path;
    return runPlan(request);
  });
}

std::string nameOf(const ::testing::TestParamInfo<CudaCase>& info) {
  return info.param.name();
}

INSTANTIATE_TEST_SUITE_P(Families, PlansOnGpu, ::testing::ValuesIn(cudaCases()),
                         nameOf);
INSTANTIATE_TEST_SUITE_P(Blocks, PlansOnGpu,
                         ::testing::ValuesIn(cudaBlockCases()), nameOf);
INSTANTIATE_TEST_SUITE_P(Meshes, PlansOnGpu,
                         ::testing::ValuesIn(cudaMeshCases()), nameOf);

INSTANTIATE_TEST_SUITE_P(Replays, ReplaysOnGpu,
                         ::testing::ValuesIn(cudaReplayCases()),
                         [](const auto& info) {
                           return info.param.name() + "_replays";
                         });

class CheckedPlansOnGpu : public PlansOnGpu {};

TEST_P(CheckedPlansOnGpu, KeepToTheirMemoryWithTheSameBits) {
  RunRequest request;
  request.weights = case_.modelPath();
  request.tokens = readTokens(case_.folder() + "/tokens.json", "tokens");
  request.tokens.resize(33);
  request.prefill = 29;
  request.greedy = 3;
  if (*case_.mesh)
    (void)runCuda(request); // ranks choose side by side, until there is a file
  absl::StatusOr<RunResult> plain = runCuda(request);
  ASSERT_TRUE(plain.ok()) << plain.status();
  request.checkMemory = true;
  absl::StatusOr<RunResult> checked = runCuda(request);
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(describeOtherLogits(plain->logits, checked->logits), "");
  EXPECT_EQ(plain->sampled, checked->sampled);
}

// Two of the plans above, one of them cut over ranks that share the GPU.
INSTANTIATE_TEST_SUITE_P(Memory, CheckedPlansOnGpu,
                         ::testing::Values(CudaCase{"llama3", 3, "bf16"},
                                           CudaCase{"llama-9q3kv", 3, "bf16",
                                                    "--mesh=tp=2"}),
                         [](const ::testing::TestParamInfo<CudaCase>& info) {
                           return "memory_" + info.param.name();
                         });

INSTANTIATE_TEST_SUITE_P(Probabilities, ProbabilitiesOnGpu,
                         ::testing::ValuesIn(cudaProbabilityCases()),
                         [](const auto& info) {
                           return probabilityName(info.param);
                         });

/// A line for each plan: file, model or its folder, options of llmc compile.
void listPlans() {
  std::vector<PlanRecipe> recipes;
  for (const auto* cases : {&cudaCases(), &cudaBlockCases(), &cudaMeshCases()})
    for (const CudaCase& c : *cases)
      for (const char* target : {"cpu", "cuda"})
        recipes.push_back(inferenceRecipe(c, target));
  for (const CudaCase& c : cudaProbabilityCases())
    recipes.push_back(trainingRecipe(c));
  if (!storiesFolder().empty())
    recipes.push_back(storiesRecipe());
  for (const PlanRecipe& r : recipes)
    std::printf("%s\t%s\t%s\n", r.name.c_str(), r.model.c_str(),
                absl::StrJoin(r.options, " ").c_str());
}

} // namespace
} // namespace llmrt

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--list-plans") == 0) {
    llmrt::listPlans();
    return 0;
  }
  return llmrt::testing::runTests(argc, argv, /*alwaysOnGpu=*/true);
}
