// SPDX-License-Identifier: Apache-2.0
// The proof that the passes up to `sharded` keep a training step as it is:
// losses, norms, gradients and parameters of the step on one rank and of the
// sharded step on every rank of a mesh, in double precision. Shapes are odd on
// purpose: nothing divides.
#include "models/Import.h"
#include "runtime/base/Philox.h"
#include "tests/values/StepSession.h"
#include "tests/values/TrainingSession.h"

#include <gtest/gtest.h>

#include <set>

namespace llmc {
namespace {

using namespace mlir;
using llmrt::testing::TrainingBatch;

// Sums over ranks and micro-batches add the same doubles in another order; an
// update divides by the root of a second moment, which magnifies small ones.
constexpr double kLossBound = 1e-12;
constexpr double kGradientBound = 1e-11; // in parts of the norm
constexpr double kParameterBound = 1e-8;
constexpr int64_t kNumSteps = 2;

struct Case {
  std::string name;
  std::string model; // of --new
  TrainingSetup setup;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

using Values = std::map<std::string, std::vector<double>>;

/// What a run of some steps gives.
struct Trained {
  std::vector<TrainingSession::Report> reports;
  Values gradients; // of the first step
  Values parameters;
};

/// Packed documents of random lengths; a third of the labels is not counted.
TrainingBatch randomBatch(const TrainingSetup& setup, int64_t vocab,
                          uint64_t seed) {
  TrainingBatch batch;
  batch.numSequences = setup.batch;
  batch.numRows = setup.seq;
  int64_t rows = setup.batch * setup.seq;
  std::vector<int64_t> ids = randomTokens(rows, vocab, seed),
                       labels = randomTokens(rows, vocab, seed + 1),
                       dice = randomTokens(rows, 12, seed + 2);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t inSequence = r % setup.seq;
    bool isNew = inSequence == 0 || dice[r] == 0;
    int32_t start = isNew ? inSequence : batch.starts.back();
    batch.starts.push_back(start);
    batch.positions.push_back(inSequence - start);
    batch.ids.push_back(ids[r]);
    batch.labels.push_back(dice[r] % 3 == 1 ? -100 : labels[r]);
  }
  return batch;
}

double worstDifference(const Values& a, const Values& b) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (const auto& [name, x] : a) {
    auto found = b.find(name);
    if (found == b.end() || found->second.size() != x.size())
      return INFINITY;
    for (size_t i = 0; i < x.size(); ++i) {
      double difference = std::abs(x[i] - found->second[i]);
      if (!std::isfinite(difference)) {
        ADD_FAILURE() << name << "[" << i << "] is not finite";
        return INFINITY;
      }
      worst = std::max(worst, difference);
    }
  }
  return worst;
}

class ShardedTraining : public testing::Test {
protected:
  ShardedTraining() {
    context_.disableMultithreading();
    context_
        .loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect>();
  }

  /// Steps on batches that depend on nothing but their number. No reports: it
  /// failed, with a diagnostic.
  Trained train(const std::string& model, const TrainingSetup& setup,
                const std::string& phase) {
    Trained run;
    auto module = newModel(context_, model);
    EXPECT_TRUE(module.ok()) << module.status();
    if (!module.ok() || failed(compileTrainingTo(**module, setup, phase)))
      return run;
    auto card = (**module)->getAttrOfType<DictionaryAttr>("llm.model");
    int64_t vocab = card.getAs<IntegerAttr>("vocab_size").getInt();
    TrainingSession session(**module, setup, randomParameters(7));
    auto all = [&](StringRef suffix) {
      Values values;
      for (auto param : (*module)->getOps<llm::ParamOp>())
        values[param.getSymName().str()] = session.logical(param, suffix);
      return values;
    };
    llmrt::testing::TrainingOptimizer optimizer{1e-3, 0.9, 0.95, 1e-8, 0.1, 1};
    for (int64_t step = 0; step < kNumSteps; ++step) {
      TrainingBatch batch = randomBatch(setup, vocab, 100 * step);
      if (failed(session.accumulate(batch)))
        return Trained();
      if (step == 0)
        run.gradients = all(".gradient");
      auto report = session.update(optimizer, step + 1);
      if (failed(report))
        return Trained();
      run.reports.push_back(*report);
    }
    run.parameters = all("");
    return run;
  }

  void expectEqual(const Trained& run, const Trained& reference,
                   double lossBound, double gradientBound,
                   double parameterBound) {
    ASSERT_EQ(run.reports.size(), size_t(kNumSteps));
    ASSERT_EQ(reference.reports.size(), size_t(kNumSteps));
    for (int64_t i = 0; i < kNumSteps; ++i) {
      double bound = lossBound * (i == 0 ? 1 : 100);
      EXPECT_LE(std::abs(run.reports[i].loss / reference.reports[i].loss - 1),
                bound)
          << "loss of step " << i;
      EXPECT_LE(std::abs(run.reports[i].norm / reference.reports[i].norm - 1),
                bound)
          << "norm of step " << i;
    }
    EXPECT_LE(worstDifference(run.gradients, reference.gradients),
              gradientBound * reference.reports[0].norm);
    EXPECT_LE(worstDifference(run.parameters, reference.parameters),
              parameterBound);
  }

  MLIRContext context_;
};

class ShardedEqualsStep : public ShardedTraining,
                          public testing::WithParamInterface<Case> {};

TEST_P(ShardedEqualsStep, LossesGradientsAndParameters) {
  const Case& c = GetParam();
  TrainingSetup one;
  one.batch = c.setup.batch;
  one.seq = c.setup.seq;
  expectEqual(train(c.model, c.setup, "sharded"), train(c.model, one, "step"),
              kLossBound, kGradientBound, kParameterBound);
}

constexpr const char* kLlama93 =
    "llama,layers=2,hidden=36,heads=9,kv_heads=3,intermediate=68,vocab=127,"
    "context=64";
constexpr const char* kLlama55 =
    "llama,layers=2,hidden=30,heads=5,kv_heads=5,intermediate=41,vocab=127,"
    "context=64,tied=1";
constexpr const char* kQwen2 =
    "qwen2,layers=2,hidden=36,heads=6,kv_heads=2,intermediate=67,vocab=127,"
    "context=64";
constexpr const char* kQwen3 =
    "qwen3,layers=2,hidden=28,heads=7,kv_heads=7,head_dim=6,intermediate=50,"
    "vocab=101,context=64";
constexpr const char* kGemma2 =
    "gemma2,layers=3,hidden=36,heads=6,kv_heads=3,head_dim=8,intermediate=68,"
    "vocab=127,context=64,window=7";
constexpr const char* kGpt2 =
    "gpt2,layers=2,hidden=30,heads=5,intermediate=67,vocab=127,context=64";

constexpr const char* kDeep =
    "llama,layers=7,hidden=20,heads=5,kv_heads=5,intermediate=27,vocab=61,"
    "context=64";
constexpr const char* kDeepTied =
    "llama,layers=7,hidden=20,heads=5,kv_heads=5,intermediate=27,vocab=61,"
    "context=64,tied=1";

/// 12 sequences of 13 rows.
TrainingSetup mesh(int64_t dp, int64_t zero, int64_t microbatches = 1) {
  TrainingSetup setup;
  setup.dp = dp;
  setup.zero = zero;
  setup.microbatches = microbatches;
  setup.seq = 13;
  return setup;
}

/// Stages and chunks; the order of micro-batches changes no value.
void addPipelines(std::vector<Case>& all) {
  for (auto [name, model] : {std::pair{"deep", kDeep}, {"tied", kDeepTied}})
    for (auto [pp, virtualStages] :
         {std::pair{2, 1}, {4, 1}, {2, 2}, {3, 2}, {2, 3}}) {
      TrainingSetup setup = mesh(1, 0, 2);
      setup.pp = pp;
      setup.virtualStages = virtualStages;
      all.push_back({std::string(name) + "_pp" + std::to_string(pp) + "_v" +
                         std::to_string(virtualStages),
                     model, setup});
    }
  TrainingSetup windows = mesh(1, 0, 3);
  windows.pp = 3;
  all.push_back({"gemma2_pp3", kGemma2, windows});
  for (int64_t zero = 0; zero < 4; ++zero)
    for (int64_t virtualStages : {1, 2}) {
      TrainingSetup setup = mesh(2, zero, 2);
      setup.pp = 2;
      setup.tp = 2;
      setup.virtualStages = virtualStages;
      all.push_back({"tied_dp2_pp2_tp2_v" + std::to_string(virtualStages) +
                         "_zero" + std::to_string(zero),
                     kDeepTied, setup});
    }
}

std::vector<Case> cases() {
  std::vector<Case> all = {
      {"llama93_one", kLlama93, mesh(1, 0, 3)},
      {"gpt2_one_zero3", kGpt2, mesh(1, 3)},
  };
  for (int64_t zero = 0; zero < 4; ++zero) {
    std::string stage = "_zero" + std::to_string(zero);
    all.push_back({"llama93_dp2" + stage, kLlama93, mesh(2, zero)});
    all.push_back({"llama55_dp3" + stage, kLlama55, mesh(3, zero, 2)});
    all.push_back({"gpt2_dp4" + stage, kGpt2, mesh(4, zero, 3)});
    all.push_back({"gemma2_dp2" + stage, kGemma2, mesh(2, zero, 2)});
    all.push_back({"qwen2_dp3" + stage, kQwen2, mesh(3, zero)});
  }
  for (bool isCut : {true, false})
    for (int64_t tp : {2, 3, 4, 5})
      for (auto [family, model] : {std::pair{"llama93", kLlama93},
                                   {"llama55", kLlama55},
                                   {"qwen2", kQwen2},
                                   {"qwen3", kQwen3},
                                   {"gemma2", kGemma2},
                                   {"gpt2", kGpt2}}) {
        TrainingSetup setup = mesh(1, 0);
        setup.tp = tp;
        setup.sequenceParallel = isCut;
        all.push_back({family + ("_tp" + std::to_string(tp)) +
                           (isCut ? "" : "_whole_rows"),
                       model, setup});
      }
  for (int64_t zero = 0; zero < 4; ++zero) {
    TrainingSetup setup = mesh(2, zero, 2);
    setup.tp = 2;
    std::string suffix = "_dp2_tp2_zero" + std::to_string(zero);
    all.push_back({"llama55" + suffix, kLlama55, setup});
    setup.tp = 3;
    suffix = "_dp2_tp3_zero" + std::to_string(zero);
    all.push_back({"qwen3" + suffix, kQwen3, setup});
    all.push_back({"llama93" + suffix, kLlama93, setup});
  }
  addPipelines(all);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Meshes, ShardedEqualsStep, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

/// One micro-batch: every stage adds the same numbers in the same order.
TEST_F(ShardedTraining, ZeroStagesAgreeToTheLastBit) {
  for (int64_t dp : {2, 3, 4}) {
    Trained reference = train(kLlama93, mesh(dp, 0), "sharded");
    for (int64_t zero = 1; zero < 4; ++zero) {
      SCOPED_TRACE("dp " + std::to_string(dp) + " zero " +
                   std::to_string(zero));
      expectEqual(train(kLlama93, mesh(dp, zero), "sharded"), reference, 0, 0,
                  0);
    }
  }
}

} // namespace
} // namespace llmc
