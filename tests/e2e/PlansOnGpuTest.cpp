// SPDX-License-Identifier: Apache-2.0
// Whole plans on a GPU: every family's tiny model on one rank, and cut over
// ranks that are threads and share the GPU, gives the logits of its plan for
// cpu, and the same bits again, with graphs and without; some also with the
// check of memory. Plans are compiled by llmc, or were compiled elsewhere and
// lie in the folder $LLMC_GPU_PLANS, as --list-plans names them.
#include "tests/e2e/CudaParity.h"
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

/// A plan of a case, made or found.
class CasePlan {
public:
  CasePlan(const CudaCase& c, const std::string& target) {
    const std::string name = c.name() + "." + target + ".fb";
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
    std::vector<std::string> options = c.compileOptions(target == "cuda");
    options.push_back("--target=" + target);
    status = compilePlan(c.modelPath(), path_, options);
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
  explicit TunedOnce(const CudaCase& c)
      : path(temporaryPath(c.name() + ".tuned.json")) {
    fs::remove(path);
  }

  ~TunedOnce() { fs::remove(path); }

  TunedOnce(const TunedOnce&) = delete;
  TunedOnce& operator=(const TunedOnce&) = delete;

  const std::string path;
};

class PlansOnGpu : public ::testing::TestWithParam<CudaCase> {};

TEST_P(PlansOnGpu, GiveTheLogitsOfTheCpuTwice) {
  const CudaCase& c = GetParam();
  CasePlan cpu(c, "cpu");
  CasePlan cuda(c, "cuda");
  for (const CasePlan* plan : {&cpu, &cuda}) {
    if (!plan->skipReason.empty())
      GTEST_SKIP() << plan->skipReason;
    ASSERT_TRUE(plan->status.ok()) << plan->status;
  }
  const TunedOnce tuned(c);
  // Ranks choose side by side, each for itself, until there is a file.
  const bool mustTuneFirst = *c.mesh && std::string(c.dtype) == "bf16";
  expectLogitsOfCpu(c, cpu.path(), [&](RunRequest request) {
    request.plan = cuda.path();
    request.tuningCache = tuned.path;
    request.fabrics = [](const fb::Plan& plan, const FabricOptions& options) {
      return createThreadFabrics(plan, /*gpu=*/0, options);
    };
    if (mustTuneFirst)
      (void)runPlan(request);
    absl::StatusOr<RunResult> first = runPlan(request);
    for (bool usesGraphs : {true, false}) {
      request.usesGraphs = usesGraphs;
      absl::StatusOr<RunResult> again = runPlan(request);
      if (first.ok() && again.ok()) {
        EXPECT_EQ(describeOtherLogits(first->logits, again->logits), "")
            << "graphs " << usesGraphs;
      }
    }
    return first;
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

class CheckedPlansOnGpu : public ::testing::TestWithParam<CudaCase> {};

TEST_P(CheckedPlansOnGpu, KeepToTheirMemoryWithTheSameBits) {
  const CudaCase& c = GetParam();
  CasePlan cuda(c, "cuda");
  if (!cuda.skipReason.empty())
    GTEST_SKIP() << cuda.skipReason;
  ASSERT_TRUE(cuda.status.ok()) << cuda.status;
  const TunedOnce tuned(c);
  RunRequest request;
  request.plan = cuda.path();
  request.weights = c.modelPath();
  request.tokens = readTokens(c.folder() + "/tokens.json", "tokens");
  request.tokens.resize(33);
  request.prefill = 29;
  request.greedy = 3;
  request.tuningCache = tuned.path;
  request.fabrics = [](const fb::Plan& plan, const FabricOptions& options) {
    return createThreadFabrics(plan, /*gpu=*/0, options);
  };
  if (*c.mesh)
    (void)runPlan(request); // ranks choose side by side, until there is a file
  absl::StatusOr<RunResult> plain = runPlan(request);
  ASSERT_TRUE(plain.ok()) << plain.status();
  request.checkMemory = true;
  absl::StatusOr<RunResult> checked = runPlan(request);
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

/// A line for each plan: file, folder of the model, options of llmc compile.
void listPlans() {
  for (const auto* cases : {&cudaCases(), &cudaBlockCases(), &cudaMeshCases()})
    for (const CudaCase& c : *cases)
      for (const char* target : {"cpu", "cuda"})
        std::printf(
            "%s.%s.fb\ttests/fixtures/%s\t%s --target=%s\n", c.name().c_str(),
            target, c.model().c_str(),
            absl::StrJoin(c.compileOptions(std::string(target) == "cuda"), " ")
                .c_str(),
            target);
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
