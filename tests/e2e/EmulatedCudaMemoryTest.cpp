// SPDX-License-Identifier: Apache-2.0
// The check of memory on the cuda device, without a GPU: whole plans for
// inference and training pass it with the bits that they have without it, touch
// what their tables say, and changed plans are caught.
#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/executor/BufferLifetimes.h"
#include "tests/e2e/CudaParity.h"
#include "tests/e2e/EmulatedPlan.h"
#include "tests/e2e/TrainingRunner.h"
#include "tests/e2e/WholeRun.h"
#include "tests/plan/PlanBuilder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using testing::readTrainingFixture;

std::string fixturePath(const std::string& name) {
  return environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" + name;
}

class CheckedInference : public ::testing::TestWithParam<CudaCase> {};

TEST_P(CheckedInference, KeepsItsBits) {
  const CudaCase& c = GetParam();
  EmulatedPlan plan;
  plan.hasCublasLt = true; // its workspace is no buffer of the plan
  absl::Status compiled =
      plan.compile(c.modelPath(), c.compileOptions(/*isCuda=*/true));
  ASSERT_TRUE(compiled.ok()) << compiled;
  RunRequest request;
  request.weights = c.modelPath();
  request.tokens = readTokens(c.folder() + "/tokens.json", "tokens");
  request.tokens.resize(29);
  request.prefill = 27; // a whole chunk, and three rows of one
  request.greedy = 2;
  request.slot = *c.mesh ? 0 : 1;
  for (bool isScored : {false, true}) {
    request.score = isScored;
    absl::StatusOr<RunResult> results[2];
    for (bool isChecked : {false, true}) {
      request.checkMemory = isChecked;
      results[isChecked] = plan.run(request, /*sharesHostMemory=*/*c.mesh != 0);
      ASSERT_TRUE(results[isChecked].ok()) << results[isChecked].status();
      EXPECT_EQ(plan.numReplays() > 0, !isChecked && !isScored && !*c.mesh);
      EXPECT_EQ(plan.numLibraryLaunches() > 0,
                std::string(c.dtype) == "bf16" && !*c.weightsFormat);
    }
    EXPECT_EQ(describeOtherLogits(results[0]->logits, results[1]->logits), "");
    EXPECT_EQ(results[0]->sampled, results[1]->sampled);
  }
}

std::string nameOf(const ::testing::TestParamInfo<CudaCase>& info) {
  return info.param.name();
}

const CudaCase kInference[] = {
    {"llama-9q3kv", 3, "f32"},
    {"llama-9q3kv", 3, "bf16"},
    {"gpt2", 3, "bf16"},
    {"qwen3-q8_0-gguf", 2, "bf16", "", "q8_0"},
    {"llama-9q3kv", 3, "bf16", "--mesh=tp=2"},
    {"llama-9q3kv", 3, "f32", "--mesh=pp=2"},
    {"llama-9q3kv", 3, "f32", "--mesh=dp=2 --zero=3"},
};

INSTANTIATE_TEST_SUITE_P(Cases, CheckedInference,
                         ::testing::ValuesIn(kInference), nameOf);

/// A compiled plan, as it is and changed.
class WholePlan {
public:
  absl::Status compile(const std::vector<std::string>& options) {
    std::vector<std::string> all = {"--seq=64", "--chunk=16"};
    all.insert(all.end(), options.begin(), options.end());
    LLMRT_RETURN_IF_ERROR(plan_.compile(fixturePath(kFixture), all));
    LLMRT_ASSIGN_OR_RETURN(file_, MappedFile::open(plan_.path()));
    LLMRT_ASSIGN_OR_RETURN(read_, readPlan(file_->bytes()));
    return absl::OkStatus();
  }

  const fb::Plan& plan() const { return *read_; }

  absl::Status run(const fb::Plan& plan) {
    const bool isMesh = numRanks(plan) > 1;
    return runWhole(plan, {.weights = fixturePath(kFixture),
                           .mostCalls = 4, // prefill fills the caches
                           .device = [&](const fb::Stage& stage) {
                             return plan_.createDevice(
                                 stage, /*sharesHostMemory=*/isMesh);
                           }});
  }

private:
  static constexpr const char* kFixture = "llama-9q3kv";

  EmulatedPlan plan_;
  std::optional<MappedFile> file_;
  const fb::Plan* read_ = nullptr;
};

TEST(CheckedWhole, TouchesExactlyTheTable) {
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--batch=2"},
        {"--batch=2", "--dtype=bf16"},
        {"--mesh=tp=3"},
        {"--mesh=pp=2"},
        {"--mesh=dp=3", "--zero=3"}}) {
    SCOPED_TRACE(options.back());
    WholePlan whole;
    absl::Status status = whole.compile(options);
    ASSERT_TRUE(status.ok()) << status;
    status = whole.run(whole.plan());
    EXPECT_TRUE(status.ok()) << status;
  }
}

// What each buffer lacks is written by the command that is named. The reader
// compares what words or transfers say of a size.
TEST(CheckedWhole, ABufferThatIsTooSmallIsNamed) {
  WholePlan whole;
  absl::Status status = whole.compile({"--mesh=dp=2", "--zero=3"});
  ASSERT_TRUE(status.ok()) << status;
  fb::PlanT plan;
  whole.plan().UnPackTo(&plan);
  plan.memory.clear(); // else the reader finds the changes
  std::set<int> buffers;
  const fb::Stage& stage = *whole.plan().stages()->Get(0);
  for (const fb::Program* program : *stage.programs())
    for (const Lifetime& lifetime : lifetimesOf(*program, stage))
      buffers.insert(lifetime.buffer);
  ASSERT_GT(buffers.size(), 20u);
  int number = 0, numNamed = 0;
  for (int buffer : buffers) {
    if (number++ % 7 != 0)
      continue;
    fb::BufferT& changed = *plan.stages[0]->buffers[buffer];
    changed.size_bytes -= 64;
    auto bytes = test::finishPlan(plan);
    auto read = readPlan(bytes);
    status = read.ok() ? whole.run(**read) : read.status();
    changed.size_bytes += 64;
    EXPECT_THAT(std::string(status.message()),
                AnyOf(AllOf(HasSubstr("LLMC-E0806: rank "),
                            HasSubstr(", entry "), HasSubstr(", command "),
                            HasSubstr("buffer '" + changed.name + "', which")),
                      HasSubstr("LLMC-E0604")))
        << changed.name;
    numNamed += status.message().find("LLMC-E0806") != std::string::npos;
  }
  EXPECT_GT(numNamed, 0);
}

struct TrainingCase {
  std::string fixture;
  std::vector<std::string> options;
  bool hasCublasLt = false;
  int numSteps = 1;
};

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
void PrintTo(const TrainingCase& c, std::ostream* os) {
  *os << caseName(c.fixture, c.options);
}

class CheckedTraining : public ::testing::TestWithParam<TrainingCase> {};

// What a run touches is compared by the runner. Steps and the evaluations
// before them.
TEST_P(CheckedTraining, KeepsItsBits) {
  const TrainingCase& c = GetParam();
  auto fixture = readTrainingFixture(c.fixture);
  ASSERT_TRUE(fixture.ok()) << fixture.status();
  EmulatedPlan plan;
  plan.hasCublasLt = c.hasCublasLt;
  absl::Status compiled =
      plan.compile(fixture->checkpoint, trainingOptions(*fixture, c.options));
  ASSERT_TRUE(compiled.ok()) << compiled;
  bool isMesh = false;
  for (const std::string& option : c.options)
    isMesh |= option.find("--mesh=") == 0;
  TrainingRequest request;
  request.plan = plan.path();
  request.numSteps = c.numSteps;
  request.readMoments = true;
  request.device = [&](const fb::Stage& stage) {
    return plan.createDevice(stage, /*sharesHostMemory=*/isMesh);
  };
  absl::StatusOr<TrainingResult> results[2];
  for (bool isChecked : {false, true}) {
    request.checkMemory = isChecked;
    results[isChecked] = runTraining(*fixture, request);
    ASSERT_TRUE(results[isChecked].ok()) << results[isChecked].status();
  }
  EXPECT_EQ(results[0]->losses, results[1]->losses);
  EXPECT_EQ(results[0]->norms, results[1]->norms);
  EXPECT_EQ(results[0]->moments, results[1]->moments);
}

const TrainingCase kTraining[] = {
    {"llama3/pretrain", {"--dtype=bf16"}, true},
    {"llama3/pretrain", {"--microbatches=2", "--recompute=full"}},
    {"llama3/pretrain", {"--mesh=tp=2", "--dtype=bf16"}, true},
    {"gemma2/sft", {"--mesh=pp=2", "--microbatches=3"}},
    {"llama3/sft", {"--mesh=dp=2", "--zero=3", "--microbatches=2"}, false, 2},
};

INSTANTIATE_TEST_SUITE_P(
    Cases, CheckedTraining, ::testing::ValuesIn(kTraining),
    [](const ::testing::TestParamInfo<TrainingCase>& info) {
      return caseName(info.param.fixture, info.param.options);
    });

} // namespace
} // namespace llmrt
