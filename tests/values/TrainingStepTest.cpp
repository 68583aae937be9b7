// SPDX-License-Identifier: Apache-2.0
// The proof that the training step of phase `step` is right: gradients, norms
// and ten losses of every family against PyTorch's float64
// (tests/fixtures/README.md), in the interpreter's double precision.
#include "models/Import.h"
#include "tests/values/CheckpointParameters.h"
#include "tests/values/TrainingSession.h"

#include <gtest/gtest.h>

#include <sstream>

namespace llmc {
namespace {

using namespace mlir;
using llmrt::testing::TrainingFixture;

// The stored gradients and ours are rounded to float32, 6e-8 each. Losses are
// stored in double, but transformers turns heads by float32 cosines and scales
// Gemma's embeddings by a float32 (gpt2, which has neither, agrees to 1e-15).
constexpr double kStoredFloat32Bound = 2e-7;
constexpr double kLossBound = 1e-6;
// The same sums in another order.
constexpr double kDoubleBound = 1e-11;

class TrainingStep : public testing::Test {
protected:
  TrainingStep() {
    context_.disableMultithreading();
    context_
        .loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect>();
  }

  void read(const std::string& name) {
    auto fixture = llmrt::testing::readTrainingFixture(name);
    ASSERT_TRUE(fixture.ok()) << fixture.status();
    fixture_ = *std::move(fixture);
    auto source = llmrt::WeightSource::open(fixture_.checkpoint);
    ASSERT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
  }

  /// The fixture's model, compiled to phase `step`.
  OwningOpRef<ModuleOp> compile(const TrainingSetup& setup) {
    auto module = importCheckpoint(context_, fixture_.checkpoint, "");
    EXPECT_TRUE(module.ok()) << module.status();
    if (!module.ok() || failed(compileTrainingTo(**module, setup, "step")))
      return {};
    return std::move(*module);
  }

  using Values = std::map<std::string, std::vector<double>>;

  /// Every trained parameter, or the states of one suffix.
  Values values(ModuleOp module, TrainingSession& session,
                llvm::StringRef suffix) {
    Values all;
    for (auto param : module.getOps<llm::ParamOp>())
      if (suffix.empty() ||
          module.lookupSymbol((param.getSymName() + suffix).str()))
        all[param.getSymName().str()] = session.logical(param, suffix);
    return all;
  }

  /// Some steps; gradients are those of the last.
  struct Run {
    std::vector<TrainingSession::Report> reports;
    Values initial, gradients, parameters;
  };

  Run train(const TrainingSetup& setup, size_t numSteps) {
    Run run;
    OwningOpRef<ModuleOp> module = compile(setup);
    if (!module)
      return run;
    TrainingSession session(*module, setup, checkpointParameters(*source_));
    run.initial = values(*module, session, "");
    for (size_t step = 0; step < numSteps; ++step) {
      auto report =
          session.step(fixture_.batches[step], fixture_.optimizer, step + 1);
      if (failed(report))
        return Run();
      run.reports.push_back(*report);
    }
    run.gradients = values(*module, session, ".gradient");
    run.parameters = values(*module, session, "");
    return run;
  }

  /// Differences in parts of the largest gradient or of 1.
  void expectEqual(const Run& run, const Run& reference, double bound) {
    ASSERT_FALSE(run.reports.empty());
    ASSERT_EQ(run.reports.size(), reference.reports.size());
    for (size_t i = 0; i < run.reports.size(); ++i) {
      EXPECT_LE(std::abs(run.reports[i].loss / reference.reports[i].loss - 1),
                bound);
      EXPECT_LE(std::abs(run.reports[i].norm / reference.reports[i].norm - 1),
                bound);
    }
    double norm = reference.reports.back().norm;
    EXPECT_LE(worstDifference(run.gradients, reference.gradients),
              bound * norm);
    EXPECT_LE(worstDifference(run.parameters, reference.parameters), bound);
  }

  double worstDifference(const Values& a, const Values& b) {
    double worst = a.size() == b.size() ? 0 : INFINITY;
    for (const auto& [name, x] : a) {
      auto found = b.find(name);
      if (found == b.end() || found->second.size() != x.size())
        return INFINITY;
      for (size_t i = 0; i < x.size(); ++i) {
        double difference = std::abs(x[i] - found->second[i]);
        worst =
            std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
      }
    }
    return worst;
  }

  llmrt::testing::GradientsByName gradients(ModuleOp module,
                                            TrainingSession& session) {
    return inCheckpointLayout(module, [&](llm::ParamOp param) {
      return session.logical(param, ".gradient");
    });
  }

  void record(const std::string& name, double value) {
    std::ostringstream text;
    text << value;
    RecordProperty(name, text.str());
  }

  MLIRContext context_;
  TrainingFixture fixture_;
  std::unique_ptr<llmrt::WeightSource> source_;
};

class TrainingStepFixture : public TrainingStep,
                            public testing::WithParamInterface<std::string> {};

TEST_P(TrainingStepFixture, EqualsFloat64Reference) {
  read(GetParam());
  TrainingSetup setup;
  setup.microbatches = 2;
  OwningOpRef<ModuleOp> module = compile(setup);
  ASSERT_TRUE(module);
  TrainingSession session(*module, setup, checkpointParameters(*source_));
  double worstLoss = 0, worstNorm = 0;
  for (size_t step = 0; step < fixture_.batches.size(); ++step) {
    ASSERT_TRUE(succeeded(session.accumulate(fixture_.batches[step])));
    if (step == 0 && !fixture_.gradients.empty()) {
      auto worst = llmrt::testing::worstGradient(fixture_.gradients,
                                                 gradients(*module, session));
      ASSERT_TRUE(worst.ok()) << worst.status();
      record("gradient_error", worst->error);
      EXPECT_LT(worst->error, kStoredFloat32Bound) << worst->name;
    }
    auto report = session.update(fixture_.optimizer, step + 1);
    ASSERT_TRUE(succeeded(report));
    auto error = [](double value, double reference) {
      return std::abs(value / reference - 1);
    };
    worstLoss = std::max(worstLoss, error(report->loss, fixture_.losses[step]));
    worstNorm = std::max(worstNorm, error(report->norm, fixture_.norms[step]));
    EXPECT_EQ(session.interpreter().memory(0, "count").values[0],
              fixture_.countedTokens[step]);
  }
  record("loss_error", worstLoss);
  record("norm_error", worstNorm);
  EXPECT_LT(worstLoss, kLossBound);
  EXPECT_LT(worstNorm, kLossBound);
}

std::string fixtureName(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      c = '_';
  return name;
}

std::vector<std::string> fixtures() {
  std::vector<std::string> names = llmrt::testing::trainingFixtureNames();
  llvm::erase_if(names, [](const std::string& name) {
    return name.find("/dpo") != std::string::npos;
  });
  return names;
}

INSTANTIATE_TEST_SUITE_P(Families, TrainingStepFixture,
                         testing::ValuesIn(fixtures()), fixtureName);

TEST_F(TrainingStep, OfEveryFamilyIsTested) {
  EXPECT_EQ(fixtures().size(), 20u);
}

TEST_F(TrainingStep, NumberOfMicroBatchesChangesNothing) {
  read("llama3/sft");
  TrainingSetup one;
  Run whole = train(one, 3);
  for (int64_t count : {2, 4, 12}) {
    TrainingSetup setup;
    setup.microbatches = count;
    expectEqual(train(setup, 3), whole, kDoubleBound);
  }
}

/// Nothing is rounded here: what remains of bf16 is that the f32 weights are
/// states.
TEST_F(TrainingStep, MasterWeightsAreUpdated) {
  read("qwen2/pretrain");
  TrainingSetup setup, bf16;
  bf16.dtype = "bf16";
  expectEqual(train(bf16, 3), train(setup, 3), 0);
}

/// One pattern for each way a gradient can end: a layer, the tied table, parts
/// of every layer, all vectors, everything but the last norm.
TEST_F(TrainingStep, FrozenParametersStayAndChangeNoOtherGradient) {
  read("gpt2/pretrain");
  Run all = train(TrainingSetup(), 1);
  const std::pair<const char*, size_t> kPatterns[] = {
      {"transformer.h.1.*", 16}, {"transformer.wte.weight", 1},
      {"*.mlp.*", 12},           {"*bias", 25},
      {"transformer.[hw]*", 50}, {"transformer.ln_f.*", 2}};
  for (const auto& [pattern, numFrozen] : kPatterns) {
    SCOPED_TRACE(pattern);
    TrainingSetup setup;
    setup.freeze = pattern;
    Run some = train(setup, 1);
    ASSERT_FALSE(some.reports.empty());
    EXPECT_EQ(some.gradients.size() + numFrozen, all.gradients.size());
    for (const auto& [name, gradient] : some.gradients)
      EXPECT_EQ(gradient, all.gradients[name]) << name;
    for (const auto& [name, values] : some.parameters)
      EXPECT_EQ(values == some.initial[name], !some.gradients.count(name))
          << name;
    EXPECT_LT(some.reports[0].norm, all.reports[0].norm);
    EXPECT_EQ(some.reports[0].loss, all.reports[0].loss);
  }
}

TEST_F(TrainingStep, AFreezePatternOfNothingOrEverythingIsRefused) {
  read("gpt2/pretrain");
  for (const char* pattern : {"layers.9.*", "*", "["}) {
    auto module = importCheckpoint(context_, fixture_.checkpoint, "");
    ASSERT_TRUE(module.ok());
    TrainingSetup setup;
    setup.freeze = pattern;
    std::string message;
    ScopedDiagnosticHandler handler(&context_, [&](Diagnostic& diagnostic) {
      message += diagnostic.str();
    });
    EXPECT_TRUE(failed(compileTrainingTo(**module, setup, "step"))) << pattern;
    EXPECT_EQ(message.rfind("LLMC-E0102: ", 0), 0u) << message;
  }
}

/// The key bias adds the same to all scores of a query.
TEST_F(TrainingStep, AGradientThatIsZeroInTheoryIsZero) {
  read("gpt2/pretrain");
  Run run = train(TrainingSetup(), 1);
  int64_t numKeyBiases = 0;
  for (const auto& [name, gradient] : run.gradients) {
    if (name.find("k_proj.bias") == std::string::npos)
      continue;
    ++numKeyBiases;
    for (double value : gradient)
      EXPECT_LT(std::abs(value), 1e-14 * run.reports[0].norm) << name;
  }
  EXPECT_EQ(numKeyBiases, 3);
}

TEST_F(TrainingStep, NoClippingIsALargeClip) {
  read("llama3/pretrain");
  fixture_.optimizer.clip = 0;
  Run none = train(TrainingSetup(), 2);
  fixture_.optimizer.clip = 1e9;
  expectEqual(none, train(TrainingSetup(), 2), 0);
}

TEST_F(TrainingStep, ANormThatIsNotFiniteLeavesEverything) {
  read("llama3/pretrain");
  TrainingSetup setup;
  OwningOpRef<ModuleOp> module = compile(setup);
  ASSERT_TRUE(module);
  TrainingSession session(*module, setup, checkpointParameters(*source_));
  ASSERT_TRUE(
      succeeded(session.step(fixture_.batches[0], fixture_.optimizer, 1)));
  Values before = values(*module, session, ""),
         moments = values(*module, session, ".moment1"),
         squares = values(*module, session, ".moment2");
  ASSERT_TRUE(succeeded(session.accumulate(fixture_.batches[1])));
  auto first = *module->getOps<llm::StateOp>().begin();
  for (auto state : module->getOps<llm::StateOp>())
    if (state.getRole() == llm::StateRole::gradient)
      first = state;
  session.interpreter().memory(0, first.getSymName()).values[0] = INFINITY;
  auto report = session.update(fixture_.optimizer, 2);
  ASSERT_TRUE(succeeded(report));
  EXPECT_FALSE(std::isfinite(report->norm));
  EXPECT_EQ(values(*module, session, ""), before);
  EXPECT_EQ(values(*module, session, ".moment1"), moments);
  EXPECT_EQ(values(*module, session, ".moment2"), squares);
}

} // namespace
} // namespace llmc
