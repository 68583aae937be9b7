// SPDX-License-Identifier: Apache-2.0
// The log-probability of every token in a training forward pass has the bits of
// that in an inference prefill and score of the same weights, dtype and mesh
// (docs/design/architecture.md, section 8, point 3).
//
// Training: steps with learning rate 0 that count one label each, whose loss is
// then minus the log-probability of that label. Inference: what the loss's own
// kernels make of the logits, part by part of the vocabulary as tensor ranks
// hold it.
#include "runtime/base/MappedFile.h"
#include "runtime/plan/Mesh.h"
#include "tests/e2e/PlanRunner.h"
#include "tests/e2e/TrainingRunner.h"
#include "tests/kernels/KernelRun.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

namespace llmrt {
namespace {

using testing::TrainingFixture;

struct Case {
  std::string fixture;
  std::vector<std::string> options; // of both compilations
};

void PrintTo(const Case& c, std::ostream* os) {
  *os << c.fixture;
  for (const std::string& option : c.options)
    *os << " " << option;
}

/// Where the parts of the vocabulary begin, and its end.
std::vector<int64_t> vocabularyParts(const fb::Plan& plan) {
  int64_t vocab = plan.model()->vocab_size();
  int tp = findAxis(plan, "tp");
  if (tp < 0 || plan.axes()->Get(tp)->size() == 1)
    return {0, vocab};
  for (const fb::Stage* stage : *plan.stages())
    for (const fb::Parameter* p : *stage->parameters())
      for (unsigned i = 0; p->box() && i < p->box()->size(); ++i) {
        const fb::BoxDim& cut = *p->box()->Get(i);
        if (p->global_shape()->Get(0) != vocab || cut.dim() != 0 ||
            cut.offset()->axis() != tp)
          continue;
        std::vector<int64_t> begins(cut.offset()->values()->begin(),
                                    cut.offset()->values()->end());
        begins.push_back(vocab);
        return begins;
      }
  return {};
}

class LogProbabilities : public ::testing::TestWithParam<Case> {
protected:
  void SetUp() override {
    folder_ = environment("LLMC_SOURCE_DIR") + "/tests/fixtures/" +
              GetParam().fixture;
    tokens_ = readTokens(folder_ + "/tokens.json", "tokens");
    plan_ = temporaryPath("probabilities.fb");
    std::vector<std::string> options = GetParam().options;
    options.emplace_back("--seq=128");
    options.emplace_back("--chunk=32");
    absl::Status compiled = compilePlan(folder_, plan_, options);
    ASSERT_TRUE(compiled.ok()) << compiled;
  }

  void TearDown() override { std::filesystem::remove(plan_); }

  int64_t dataRanks() const {
    for (const std::string& option : GetParam().options)
      if (option.find("dp=2") != std::string::npos)
        return 2;
    return 1;
  }

  /// Losses of tokens 1.. in training. With two data ranks the label counts on
  /// one and then on the other.
  absl::StatusOr<std::vector<float>> train() {
    std::vector<int64_t> rows(tokens_.size() - 1);
    std::iota(rows.begin(), rows.end(), 0);
    TrainingFixture fixture =
        oneLabelAStep(folder_, tokens_, rows, dataRanks());
    auto result =
        runTraining(fixture, {.options = GetParam().options,
                              .numSteps = static_cast<int>(rows.size())});
    if (!result.ok())
      return result.status();
    return std::vector<float>(result->losses.begin(), result->losses.end());
  }

  /// Losses of the labels of rows of inference logits.
  std::vector<float> lossesOf(const Logits& logits,
                              std::vector<int32_t> labels) {
    auto file = MappedFile::open(plan_);
    std::vector<int64_t> begins = vocabularyParts(**readPlan(file->bytes()));
    int64_t rows = logits.size(), parts = begins.size() - 1;
    std::vector<float> stats(parts * rows * 3), loss(rows), logSum(rows);
    for (int64_t t = 0; t < parts; ++t) {
      int64_t width = begins[t + 1] - begins[t];
      std::vector<float> x;
      for (const std::vector<float>& row : logits)
        x.insert(x.end(), row.begin() + begins[t], row.begin() + begins[t + 1]);
      CrossEntropyStatisticsArgs a = {
          rows,  x.data(), width, labels.data(), stats.data() + t * rows * 3,
          width, begins[t]};
      testing::runKernel("cross_entropy_statistics", detectCpuLevel(), a, rows,
                         1);
    }
    CrossEntropyLossArgs a = {rows,          stats.data(), rows * 3,     parts,
                              labels.data(), loss.data(),  logSum.data()};
    testing::runKernel("cross_entropy_loss", detectCpuLevel(), a, rows, 1);
    return loss;
  }

  RunRequest request() {
    RunRequest r;
    r.plan = plan_;
    r.weights = folder_;
    r.tokens = tokens_;
    r.checkMemory = true;
    return r;
  }

  std::string folder_, plan_;
  std::vector<int32_t> tokens_;
};

TEST_P(LogProbabilities, OfTrainingHaveTheBitsOfInference) {
  auto trained = train();
  ASSERT_TRUE(trained.ok()) << trained.status();
  RunRequest r = request();
  r.score = true;
  auto scored = runPlan(r);
  ASSERT_TRUE(scored.ok()) << scored.status();
  std::vector<int32_t> labels(tokens_.begin() + 1, tokens_.end());
  scored->logits.pop_back();
  std::vector<float> losses = lossesOf(scored->logits, labels);
  ASSERT_EQ(losses.size(), trained->size());
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_EQ((*trained)[i], losses[i]) << "row " << i;
  // A prefill returns its last row.
  r.score = false;
  for (int64_t count : {1, 33, 69}) {
    r.tokens.assign(tokens_.begin(), tokens_.begin() + count);
    r.prefill = count;
    auto filled = runPlan(r);
    ASSERT_TRUE(filled.ok()) << filled.status();
    EXPECT_EQ((*trained)[count - 1],
              lossesOf(filled->logits, {tokens_[count]})[0])
        << "prefill of " << count;
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* fixture :
       {"llama-9q3kv", "llama3", "gpt2", "gemma2", "gemma3", "qwen3"})
    for (const char* dtype : {"f32", "bf16"})
      for (const char* mesh : {"tp=1", "tp=2", "pp=2"})
        all.push_back(
            {fixture,
             {std::string("--dtype=") + dtype, std::string("--mesh=") + mesh}});
  for (const char* fixture : {"llama-9q3kv", "gemma3"})
    all.push_back({fixture, {"--dtype=bf16", "--mesh=dp=2,tp=2"}});
  all.push_back({"llama-9q3kv", {"--dtype=f32", "--mesh=tp=4"}});
  return all;
}

std::string nameOf(const ::testing::TestParamInfo<Case>& info) {
  return caseName(info.param.fixture, info.param.options);
}

INSTANTIATE_TEST_SUITE_P(Step, LogProbabilities, ::testing::ValuesIn(cases()),
                         nameOf);

} // namespace
} // namespace llmrt
