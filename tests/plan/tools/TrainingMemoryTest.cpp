// SPDX-License-Identifier: Apache-2.0
// The bytes of training plans against the formulas of
// docs/howto/training-memory.md, worked out here from the model's shapes; what
// `llmc explain memory` prints next to them.
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <sstream>

namespace llmc::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr const char* kModel =
    "llama,layers=4,hidden=64,heads=4,kv_heads=2,intermediate=96,vocab=257,"
    "context=128";
constexpr int64_t kLayers = 4, kHidden = 64, kHeads = 4, kKeyValue = 32,
                  kIntermediate = 96, kVocabulary = 257;
constexpr int64_t kSequence = 64, kBatch = 8;

int64_t roundUp(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

class TrainingMemory : public testing::Test {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    ToolEnd end =
        folder_->run(std::string("for t in 0 1; do llmc import -o $t.mlir "
                                 "--new=") +
                     kModel + ",tied=$t; done");
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  static void TearDownTestSuite() { delete folder_; }

  json compile(const std::string& options, bool isTied = false) {
    ToolEnd end = folder_->run("llmc compile " + std::to_string(isTied) +
                               ".mlir --mode=train --seq=64 --batch=8 --quiet "
                               "-o p.fb " +
                               options + " && llmc inspect p.fb --output=json");
    EXPECT_EQ(end.status, 0) << end.errors;
    return json::parse(end.output);
  }

  std::string explain(const std::string& options, bool isTied = false) {
    compile(options, isTied);
    ToolEnd end = folder_->run("llmc explain p.fb memory");
    EXPECT_EQ(end.status, 0) << end.errors;
    return end.output;
  }

  static int64_t bytesOf(const json& plan, const std::string& name) {
    for (const json& row : plan["memory"])
      if (row["class"] == name)
        return row["bytes"];
    return 0;
  }

  /// Of one micro-batch on a stage.
  static int64_t savedBytes(const json& stage) {
    int64_t bytes = 0;
    for (const json& buffer : stage["buffers"])
      if (buffer["slot_kind"] == "saved")
        bytes += buffer["bytes"].get<int64_t>() / buffer["slots"].get<int>();
    return bytes;
  }

  static LlmcFolder* folder_;
};

LlmcFolder* TrainingMemory::folder_ = nullptr;

/// Elements of all matrices, each padded to equal runs of panels for dp ranks.
int64_t paddedMatrices(int64_t panel, int64_t dp) {
  auto matrix = [&](int64_t outputs, int64_t inputs) {
    return roundUp(outputs, panel * dp) * inputs;
  };
  return kLayers *
             (2 * matrix(kHidden, kHidden) + 2 * matrix(kKeyValue, kHidden) +
              2 * matrix(kIntermediate, kHidden) +
              matrix(kHidden, kIntermediate)) +
         2 * matrix(kVocabulary, kHidden);
}

// A term of the gradient norm for each parameter; the count and the loss.
constexpr int64_t kScalars = 8 * (9 * kLayers + 3) + 4 + 4;

TEST_F(TrainingMemory, ModelStatesFollowTheFormula) {
  constexpr int64_t kVectors = (2 * kLayers + 1) * kHidden;
  constexpr int64_t kRanks = 4;
  for (bool isBf16 : {false, true})
    for (int zero = 0; zero <= 3; ++zero) {
      json plan = compile("--mesh=dp=4 --zero=" + std::to_string(zero) +
                          (isBf16 ? " --dtype=bf16" : ""));
      int64_t matrices = paddedMatrices(isBf16 ? 64 : 32, kRanks);
      auto shard = [&](int64_t bytes, int from) {
        return zero >= from ? bytes / kRanks : bytes;
      };
      EXPECT_EQ(bytesOf(plan, "parameters"),
                shard((isBf16 ? 2 : 4) * matrices, 3) + 4 * kVectors)
          << zero;
      EXPECT_EQ(bytesOf(plan, "gradients"),
                shard(4 * matrices, 2) + 4 * kVectors)
          << zero;
      EXPECT_EQ(bytesOf(plan, "optimizer"),
                shard((isBf16 ? 12 : 8) * matrices, 1) + 8 * kVectors +
                    kScalars)
          << zero;
    }
}

struct Activations {
  int64_t sequences;
  int64_t tp;
  bool isSequenceParallel;
  std::string recompute;

  int64_t rows() const { return sequences * kSequence; }

  /// Ranks that rows between tensor-split products are cut over.
  int64_t rowRanks() const { return isSequenceParallel ? tp : 1; }

  int64_t layer() const {
    int64_t whole = kHidden / rowRanks();
    if (recompute == "full")
      return 4 * rows() * whole; // its input
    int64_t attention = 2 * kHidden + 2 * kKeyValue + kHeads;
    if (recompute == "selective")
      return 4 * rows() * (2 * whole + (2 * kIntermediate + attention) / tp);
    return 4 * rows() * (4 * whole + (3 * kIntermediate + attention) / tp);
  }

  int64_t head() const {
    int64_t columns = (kVocabulary + tp - 1) / tp;
    int64_t hidden = (recompute == "none" ? 2 : 1) * kHidden / rowRanks();
    return 4 * rows() * (columns + 1 + hidden);
  }
};

TEST_F(TrainingMemory, ActivationsFollowTheFormula) {
  for (const char* recompute : {"none", "selective", "full"})
    for (int tp : {1, 2})
      for (bool isSequenceParallel : {true, false}) {
        std::string options =
            "--mesh=tp=" + std::to_string(tp) + " --recompute=" + recompute;
        if (!isSequenceParallel)
          options += " --sequence-parallel=false";
        Activations formula{kBatch, tp, isSequenceParallel, recompute};
        EXPECT_EQ(savedBytes(compile(options)["stages"][0]),
                  kLayers * formula.layer() + formula.head())
            << options;
      }
}

// The first layer of a later stage reads what was received, which is another
// buffer; 1f1b keeps P - p micro-batches in flight.
TEST_F(TrainingMemory, StagesKeepTheirLayersForMicroBatchesInFlight) {
  json plan = compile("--mesh=pp=2 --microbatches=4");
  Activations formula{kBatch / 4, 1, true, "none"};
  int64_t border = 4 * formula.rows() * kHidden;
  EXPECT_EQ(savedBytes(plan["stages"][0]), 2 * formula.layer());
  EXPECT_EQ(savedBytes(plan["stages"][1]),
            2 * formula.layer() - border + formula.head());
  for (int stage : {0, 1})
    for (const json& buffer : plan["stages"][stage]["buffers"])
      if (buffer["slot_kind"] == "saved") {
        EXPECT_EQ(buffer["slots"], 2 - stage);
      }
}

TEST_F(TrainingMemory, ExplainPrintsPapersNextToThePlan) {
  json plan = compile("--mesh=dp=4 --zero=2 --dtype=bf16");
  std::string text = explain("--mesh=dp=4 --zero=2 --dtype=bf16");
  // 156352 parameters: 2, 2 and 12 bytes, the latter two over 4 ranks.
  constexpr int64_t kParameters = 156352;
  for (int64_t bytes :
       {2 * kParameters, 2 * kParameters / 4, 12 * kParameters / 4,
        bytesOf(plan, "gradients"), bytesOf(plan, "optimizer")})
    EXPECT_THAT(text, HasSubstr(" " + std::to_string(bytes) + " "));
  for (const char* part :
       {"156352 parameters, 156352 of them trained, ZeRO stage 2 over dp=4",
        "18, as gradients", "Korthikanti et al.: sbh(34+5as/h)",
        "one layer (layers.", "h=64, a=4, t=1"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(
      text,
      HasSubstr(" " + std::to_string(Activations{2, 1, true, "none"}.layer()) +
                " "));
  // s=64, b=2, h=64, a=4: 8192 (34 + 20).
  EXPECT_THAT(text, HasSubstr(" 442368 "));
}

/// The third number of a line is what the paper says, the first what the plan
/// has.
void expectEqualColumns(const std::string& text, const std::string& name,
                        int count) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first, unit;
    int64_t plan = 0, formula = 0;
    double shortened = 0;
    words >> first >> plan >> shortened >> unit >> formula;
    if (first != name || !words)
      continue;
    --count;
    EXPECT_EQ(plan, formula) << line;
  }
  EXPECT_EQ(count, 0) << name << " in\n" << text;
}

// Also where the test above does not go: stages, tensor split, frozen
// layers, reference models, tied parameters.
TEST_F(TrainingMemory, ThePrintedFormulaIsWhatThePlanHas) {
  struct Mesh {
    const char* options;
    int stages;
    bool isTied = false;
  };

  for (const Mesh& mesh :
       {Mesh{"--mesh=dp=2,pp=2,tp=2 --zero=2 --microbatches=4", 2},
        Mesh{"--mesh=dp=2,pp=2 --zero=3 --dtype=bf16 --microbatches=2", 2},
        Mesh{"--mesh=dp=2 --zero=1 --freeze=*.mlp.*", 1},
        Mesh{"--mesh=dp=2 --zero=3 --freeze=*.mlp.*", 1},
        Mesh{"--dtype=bf16 --mesh=dp=2 --freeze=*embed*", 1},
        Mesh{"--mesh=dp=2,tp=2 --objective=dpo --zero=2 --reference-zero=3", 1},
        Mesh{"--mesh=dp=2,pp=2 --zero=0 --microbatches=2", 2, true},
        Mesh{"--mesh=dp=2,pp=2 --zero=1 --microbatches=2", 2, true}}) {
    std::string text = explain(mesh.options, mesh.isTied);
    text = text.substr(text.find("model states of"));
    for (const char* name :
         {"parameters", "gradients", "optimizer", "together"})
      expectEqualColumns(text, name, mesh.stages);
  }
}

TEST_F(TrainingMemory, ExplainSaysLessOfInference) {
  ToolEnd end = folder_->run("llmc compile 0.mlir --quiet -o i.fb && "
                             "llmc explain i.fb memory");
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_THAT(end.output, testing::Not(HasSubstr("paper")));
}

} // namespace
} // namespace llmc::test
