// SPDX-License-Identifier: Apache-2.0
// What llmc compile prints before anything runs, against volumes and bubbles
// that textbooks give, and against the JSON of the plan.
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace llmc::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Little vocabulary: stages of a pipeline are nearly equal.
constexpr const char* kModel =
    "llama,layers=8,hidden=64,heads=4,kv_heads=2,intermediate=128,vocab=32,"
    "context=128";
constexpr int64_t kHidden = 64, kLayers = 8, kVocabulary = 32, kSequence = 32,
                  kBatch = 16;
/// Elements of the matrices of a layer: q and output, k and v, three of the
/// MLP.
constexpr int64_t kLayerMatrices = 64 * (64 * 2 + 32 * 2 + 128 * 3);

class StepReport : public testing::Test {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    ToolEnd end =
        folder_->run(std::string("llmc import -o m.mlir --new=") + kModel);
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  static void TearDownTestSuite() { delete folder_; }

  /// Compiles a training step and returns what was printed.
  std::string compile(const std::string& options) {
    ToolEnd end = folder_->run("llmc compile m.mlir --mode=train --seq=32 "
                               "--batch=16 -o p.fb " +
                               options);
    EXPECT_EQ(end.status, 0) << end.errors;
    EXPECT_EQ(end.output, "");
    return end.errors;
  }

  json inspect() {
    ToolEnd end = folder_->run("llmc inspect p.fb --output=json");
    EXPECT_EQ(end.status, 0) << end.errors;
    return json::parse(end.output);
  }

  json step(const std::string& options) {
    compile(options);
    return inspect()["step"];
  }

  static int64_t bytesOf(const json& plan, int stage, const std::string& name) {
    for (const json& row : plan["memory"])
      if (row["stage"] == stage && row["class"] == name)
        return row["bytes"];
    return 0;
  }

  static LlmcFolder* folder_;
};

LlmcFolder* StepReport::folder_ = nullptr;

TEST_F(StepReport, PrintsEveryClassEveryAxisAndTheBubble) {
  std::string text = compile("--mesh=dp=2,pp=2,tp=2 --zero=3 --microbatches=4");
  json plan = inspect();
  EXPECT_THAT(text, HasSubstr("p.fb: train in f32 on 8 ranks, mesh dp=2, "
                              "pp=2, tp=2\n"));
  for (const char* name :
       {"parameters", "gradients", "optimizer", "activations",
        "gathered_parameters", "communication", "workspace"}) {
    EXPECT_THAT(text, HasSubstr(std::string("\n") + name + " "));
    for (int stage : {0, 1})
      EXPECT_THAT(
          text,
          HasSubstr(" " + std::to_string(bytesOf(plan, stage, name)) + " "));
  }
  for (const json& stage : plan["step"]["stages"])
    for (const char* axis : {"dp", "pp", "tp"}) {
      int64_t sent = stage["sent_bytes"][axis];
      EXPECT_GT(sent, 0) << axis;
      EXPECT_THAT(text, HasSubstr(" " + std::to_string(sent) + " "));
    }
  char bubble[32];
  std::snprintf(bubble, sizeof bubble, "%.4f",
                plan["step"]["bubble_fraction"].get<double>());
  EXPECT_THAT(text, AllOf(HasSubstr("stage 0 (ranks 0-1, 4-5)"),
                          HasSubstr(std::string("bubble fraction ") + bubble),
                          HasSubstr("assumed: ")));
}

TEST_F(StepReport, QuietPrintsNothing) { EXPECT_EQ(compile("--quiet"), ""); }

TEST_F(StepReport, OneRankNeitherSendsNorWaits) {
  EXPECT_THAT(compile(""),
              AllOf(Not(HasSubstr("sends")), Not(HasSubstr("bubble")),
                    HasSubstr("stage 0 (rank 0)")));
}

TEST_F(StepReport, InferenceSendsInEachCall) {
  ToolEnd end =
      folder_->run("llmc compile m.mlir --mesh=pp=2,tp=2 -o infer.fb");
  EXPECT_EQ(end.status, 0);
  EXPECT_THAT(end.errors,
              AllOf(HasSubstr("bytes that a rank sends in a call"),
                    HasSubstr("decode, stage 1 (ranks 2-3)"),
                    HasSubstr("\ncaches "), Not(HasSubstr("bubble"))));
}

// A ring all-reduce moves 2 (N - 1) / N of the gradient; ZeRO 1 and 2 move the
// same (a reduce-scatter and a gather of parameters), ZeRO 3 half as much again
// (parameters are gathered twice): Rajbhandari et al. 2020, section 7.
TEST_F(StepReport, DataRanksSendTheVolumesOfTheZeroPaper) {
  constexpr int64_t kRanks = 4;
  // Counted labels, norms of blocks, vectors that stay whole.
  constexpr int64_t kSmallMessages = 64 << 10;
  for (int zero = 0; zero <= 3; ++zero) {
    json now = step("--mesh=dp=4 --zero=" + std::to_string(zero))["stages"][0];
    int64_t gradient = bytesOf(inspect(), 0, "gradients");
    if (zero >= 2)
      gradient *= kRanks;
    double volume = (zero == 3 ? 3.0 : 2.0) * gradient * (kRanks - 1) / kRanks;
    EXPECT_NEAR(now["sent_bytes"]["dp"].get<double>(), volume, kSmallMessages)
        << "stage " << zero;
    EXPECT_GT(volume, 20 * kSmallMessages) << "the test would show nothing";
    EXPECT_EQ(now["sent_bytes"]["tp"], 0);
  }
}

// Each micro-batch crosses a border once forward and once backward, in f32.
TEST_F(StepReport, StagesSendActivationsAndGradients) {
  constexpr int64_t kNorms = 64; // of the gradient, once a step
  int64_t border = kBatch * kSequence * kHidden * 4;
  json stages = step("--mesh=pp=4 --microbatches=4")["stages"];
  for (int stage = 0; stage < 4; ++stage)
    EXPECT_NEAR(stages[stage]["sent_bytes"]["pp"].get<double>(),
                static_cast<double>(border) * (stage % 3 ? 2 : 1), kNorms);
}

// 2 FLOPs a weight and row forward, 4 backward; attention on a causal triangle
// 2 products forward, 5 backward.
TEST_F(StepReport, CountsTheFlopsOfAStep) {
  constexpr double kRows = kBatch * kSequence;
  constexpr double kMatrices = kLayers * kLayerMatrices + kVocabulary * kHidden;
  constexpr double kTriangle = kBatch * kSequence * (kSequence + 1) / 2;
  constexpr double kAttention = kLayers * kTriangle * kHidden;
  double whole = 6 * kRows * kMatrices + (4 + 10) * kAttention;
  EXPECT_DOUBLE_EQ(step("")["stages"][0]["flops"].get<double>(), whole);
  EXPECT_DOUBLE_EQ(step("--microbatches=4")["stages"][0]["flops"].get<double>(),
                   whole);
  EXPECT_DOUBLE_EQ(
      step("--mesh=dp=4 --zero=3")["stages"][0]["flops"].get<double>(),
      whole / 4);
  // Every block forward once more, but for the last product of each, whose
  // result backward does not read.
  double again =
      kLayers * (2 * kRows * (kLayerMatrices - kHidden * 128)) + 4 * kAttention;
  EXPECT_DOUBLE_EQ(step("--recompute=full")["stages"][0]["flops"].get<double>(),
                   whole + again);
}

// (P - 1) / (M + P - 1): Huang et al. 2019, Narayanan et al. 2021. The head
// makes the last stage a little slower.
TEST_F(StepReport, BubblesOfEqualStages) {
  constexpr double kHead = 0.02;
  for (int microbatches : {2, 4, 8}) {
    std::string options =
        "--mesh=pp=2 --microbatches=" + std::to_string(microbatches);
    double expected = 1.0 / (microbatches + 1);
    double gpipe = step(options + " --schedule=gpipe")["bubble_fraction"];
    double oneForward = step(options + " --schedule=1f1b")["bubble_fraction"];
    double zeroBubble =
        step(options + " --schedule=zero-bubble")["bubble_fraction"];
    EXPECT_NEAR(gpipe, expected, kHead);
    EXPECT_NEAR(oneForward, expected, kHead);
    EXPECT_LT(zeroBubble, 0.8 * oneForward);
    EXPECT_GT(zeroBubble, 0);
  }
}

} // namespace
} // namespace llmc::test
