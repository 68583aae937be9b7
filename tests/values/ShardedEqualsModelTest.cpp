// SPDX-License-Identifier: Apache-2.0
// The proof that the passes up to `sharded` are right: logits of the model, of
// its step on one rank and of the sharded step on every rank of a mesh, in
// double precision. Shapes are odd on purpose: nothing divides.
#include "dialects/plan/Plan.h"
#include "models/Import.h"
#include "tests/values/StepSession.h"

#include "mlir/IR/Verifier.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>

namespace llmc {
namespace {

using namespace mlir;

// Sums over ranks and chunks add the same doubles in another order: a few
// hundred roundings of 1e-16 through five layers.
constexpr double kDoubleBound = 1e-12;

struct Case {
  std::string name;
  std::string model; // of --new
  StepSetup setup;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.name; }

class ShardedEqualsModel : public testing::TestWithParam<Case> {
protected:
  ShardedEqualsModel() {
    context_.disableMultithreading();
    context_.loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect,
                         plan::PlanDialect>();
  }

  OwningOpRef<ModuleOp> model() {
    auto module = newModel(context_, GetParam().model);
    EXPECT_TRUE(module.ok()) << module.status();
    return module.ok() ? std::move(*module) : OwningOpRef<ModuleOp>();
  }

  int64_t vocab(ModuleOp module) {
    auto model = module->getAttrOfType<DictionaryAttr>("llm.model");
    return model.getAs<IntegerAttr>("vocab_size").getInt();
  }

  /// Logits of every row by the model itself.
  Rows forward(ModuleOp module, const std::vector<int64_t>& tokens) {
    Interpreter interpreter(module, randomParameters(kSeed));
    NamedTensors inputs;
    inputs["ids"] = Tensor({1, int64_t(tokens.size())});
    inputs["positions"] = inputs["ids"];
    for (size_t i = 0; i < tokens.size(); ++i) {
      inputs["ids"].values[i] = tokens[i];
      inputs["positions"].values[i] = i;
    }
    auto results = interpreter.run("forward", {inputs});
    Rows rows;
    if (failed(results))
      return rows;
    const Tensor& logits = results->front().at("result");
    for (int64_t r = 0; r < logits.rows(); ++r)
      rows.emplace_back(logits.row(r), logits.row(r) + logits.width());
    return rows;
  }

  /// Scores, then prefills two sequences of each replica and decodes them
  /// together, and compares every row of logits.
  void compare(ModuleOp module, const StepSetup& setup) {
    StepSession session(module, setup, randomParameters(kSeed));
    StepSession::PerReplica first = sequences(setup, 0, 75);
    auto scored = session.feed("score", 0, first);
    ASSERT_TRUE(succeeded(scored));
    for (int64_t replica = 0; replica < setup.dp; ++replica)
      EXPECT_LT(
          relativeDifference((*scored)[replica], reference(first[replica])),
          kDoubleBound)
          << "score, replica " << replica;
    // 67 tokens: beyond one page, and not a whole number of chunks.
    std::vector<std::vector<std::vector<int64_t>>> slots; // [slot][replica]
    for (int64_t slot = 0; slot < setup.batch; ++slot) {
      slots.push_back(sequences(setup, slot, 75 - 20 * slot));
      StepSession::PerReplica prompts = slots.back();
      for (std::vector<int64_t>& prompt : prompts)
        prompt.resize(prompt.size() - kDecoded);
      auto last = session.feed("prefill", slot, prompts);
      ASSERT_TRUE(succeeded(last));
      for (int64_t replica = 0; replica < setup.dp; ++replica)
        EXPECT_LT(
            relativeDifference(
                (*last)[replica],
                {reference(slots[slot][replica])[prompts[replica].size() - 1]}),
            kDoubleBound)
            << "prefill, replica " << replica << ", slot " << slot;
    }
    for (int64_t i = 0; i < kDecoded; ++i)
      decodeOne(session, setup, slots, i);
  }

  void decodeOne(StepSession& session, const StepSetup& setup,
                 const std::vector<std::vector<std::vector<int64_t>>>& slots,
                 int64_t i) {
    std::vector<std::vector<int64_t>> tokens(setup.dp), positions(setup.dp);
    for (int64_t replica = 0; replica < setup.dp; ++replica)
      for (int64_t slot = 0; slot < setup.batch; ++slot) {
        const std::vector<int64_t>& sequence = slots[slot][replica];
        int64_t position = int64_t(sequence.size()) - kDecoded + i;
        // The second replica's first sequence ends early: masked from then on.
        bool isIdle = replica == 1 && slot == 0 && i >= 2;
        tokens[replica].push_back(isIdle ? -1 : sequence[position]);
        positions[replica].push_back(position);
      }
    auto logits = session.decode(tokens, positions);
    ASSERT_TRUE(succeeded(logits));
    for (int64_t replica = 0; replica < setup.dp; ++replica)
      for (int64_t slot = 0; slot < setup.batch; ++slot) {
        if (tokens[replica][slot] < 0)
          continue;
        const std::vector<double>& row = (*logits)[replica][slot];
        EXPECT_LT(
            relativeDifference(
                {row},
                {reference(slots[slot][replica])[positions[replica][slot]]}),
            kDoubleBound)
            << "decode " << i << ", replica " << replica << ", slot " << slot;
        EXPECT_EQ(session.sampled()[replica][slot],
                  std::max_element(row.begin(), row.end()) - row.begin());
      }
  }

  /// A sequence for each replica; each replica's is shorter than that before.
  StepSession::PerReplica sequences(const StepSetup& setup, int64_t slot,
                                    int64_t length) {
    StepSession::PerReplica tokens;
    for (int64_t replica = 0; replica < setup.dp; ++replica)
      tokens.push_back(randomTokens(length - 6 * replica, vocab_,
                                    1000 + 10 * slot + replica));
    return tokens;
  }

  /// The model's own logits, remembered.
  const Rows& reference(const std::vector<int64_t>& tokens) {
    Rows& rows = references_[tokens];
    if (rows.empty())
      rows = forward(*model_, tokens);
    return rows;
  }

  static constexpr uint64_t kSeed = 7;
  static constexpr int64_t kDecoded = 5;
  MLIRContext context_;
  OwningOpRef<ModuleOp> model_;
  int64_t vocab_ = 0;
  std::map<std::vector<int64_t>, Rows> references_;
};

TEST_P(ShardedEqualsModel, EveryPhase) {
  model_ = model();
  ASSERT_TRUE(model_);
  vocab_ = vocab(*model_);
  const StepSetup& setup = GetParam().setup;

  struct Level {
    const char *phase, *last;
  };

  for (Level level : {Level{"step", ""},
                      {"sharded", ""},
                      {"sharded", "inline-blocks"},
                      {"sharded", "prefetch-collectives"}}) {
    SCOPED_TRACE(std::string(level.phase) + " " + level.last);
    StepSetup here = setup;
    // A step is what one rank does.
    if (llvm::StringRef(level.phase) == "step")
      here.dp = here.pp = here.tp = 1;
    OwningOpRef<ModuleOp> module = model();
    ASSERT_TRUE(succeeded(compileTo(*module, here, level.phase, level.last)));
    ASSERT_TRUE(succeeded(verify(*module)));
    compare(*module, here);
    if (HasFailure())
      return;
  }
}

/// A change of one attribute of a sharded module.
using Fault = std::function<bool(Operation*)>;

Fault onFirst(Fault change) {
  auto isDone = std::make_shared<bool>(false);
  return [=](Operation* op) { return !*isDone && (*isDone = change(op)); };
}

/// What a pass could do wrong, each with a mesh where it would matter.
struct FaultCase {
  std::string name;
  StepSetup setup;
  Fault fault;
};

Attribute shifted(Attribute attr) {
  auto by = cast<dist::ByCoordinateAttr>(attr);
  SmallVector<int64_t> values(by.getValues());
  values.back() += 1;
  return dist::ByCoordinateAttr::get(attr.getContext(), by.getAxis(), values);
}

const std::vector<FaultCase>& faults() {
  static const std::vector<FaultCase> all = {
      {"head_offset", {.tp = 2}, onFirst([](Operation* op) {
         auto attention = dyn_cast<llm::CachedAttentionOp>(op);
         if (attention)
           attention.setHeadOffsetAttr(shifted(attention.getHeadOffsetAttr()));
         return bool(attention);
       })},
      {"vocab_begin", {.tp = 3, .chunk = 15}, onFirst([](Operation* op) {
         auto embedding = dyn_cast<llm::EmbeddingOp>(op);
         if (embedding)
           embedding.setVocabBeginAttr(shifted(embedding.getVocabBeginAttr()));
         return bool(embedding);
       })},
      {"slice",
       {.tp = 2},
       [](Operation* op) {
         auto param = dyn_cast<llm::ParamOp>(op);
         auto slice =
             param ? dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr())
                   : dist::SliceAttr();
         if (!slice || !param.getSymName().contains("0.mlp.down"))
           return false;
         SmallVector<int64_t> counts(slice.getCounts());
         counts.back() -= 1;
         param.setSliceAttr(
             dist::SliceAttr::get(op->getContext(), slice.getAxis(),
                                  slice.getDim(), slice.getOffsets(), counts));
         return true;
       }},
      {"missing_sum",
       {.tp = 2, .sequenceParallel = false},
       onFirst([](Operation* op) {
         auto sum = dyn_cast<dist::AllReduceOp>(op);
         if (sum)
           sum.getResult().replaceAllUsesWith(sum.getX());
         return bool(sum);
       })},
      {"shard", {.dp = 2, .zero = 3}, onFirst([](Operation* op) {
         auto gather = dyn_cast<dist::AllGatherOp>(op);
         if (gather) // another axis: one rank's run only
           gather.setAxesAttr(
               Builder(op->getContext()).getStrArrayAttr({"tp"}));
         return bool(gather);
       })},
      {"peer", {.pp = 2}, onFirst([](Operation* op) {
         auto send = dyn_cast<dist::SendOp>(op);
         if (send)
           send.setPeer(0);
         return bool(send);
       })},
  };
  return all;
}

void PrintTo(const FaultCase& c, std::ostream* os) { *os << c.name; }

class FindsFault : public testing::TestWithParam<FaultCase> {};

// An oracle that cannot fail proves nothing: each fault must change the logits
// of some row, or be refused.
TEST_P(FindsFault, InPrefill) {
  MLIRContext context;
  context.loadDialect<func::FuncDialect, llm::LlmDialect, dist::DistDialect,
                      plan::PlanDialect>();
  const FaultCase& c = GetParam();
  ScopedDiagnosticHandler quiet(&context,
                                [](Diagnostic&) { return success(); });
  std::vector<Rows> logits[2];
  bool isRefused = false;
  for (bool isFaulty : {false, true}) {
    auto module = newModel(
        context, "llama,layers=2,hidden=36,heads=9,kv_heads=3,intermediate=68,"
                 "vocab=127,context=256");
    ASSERT_TRUE(module.ok()) << module.status();
    ASSERT_TRUE(succeeded(compileTo(**module, c.setup, "sharded")));
    int64_t numFaults = 0;
    if (isFaulty)
      (*module)->walk([&](Operation* op) { numFaults += c.fault(op); });
    EXPECT_EQ(numFaults, isFaulty ? 1 : 0);
    StepSession session(**module, c.setup, randomParameters(3));
    StepSession::PerReplica tokens(c.setup.dp, randomTokens(20, 127, 5));
    auto last = session.feed("prefill", 0, tokens);
    isRefused = failed(last);
    if (!isRefused)
      logits[isFaulty] = *last;
  }
  EXPECT_TRUE(isRefused ||
              relativeDifference(logits[1].front(), logits[0].front()) > 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Faults, FindsFault, testing::ValuesIn(faults()),
                         [](const auto& info) { return info.param.name; });

constexpr const char* kLlama93 =
    "llama,layers=2,hidden=36,heads=9,kv_heads=3,intermediate=68,vocab=127,"
    "context=256";
constexpr const char* kLlama55 =
    "llama,layers=2,hidden=30,heads=5,kv_heads=5,intermediate=41,vocab=127,"
    "context=256,tied=1";
constexpr const char* kLlama62 =
    "llama,layers=2,hidden=36,heads=6,kv_heads=2,intermediate=68,vocab=129,"
    "context=256";
constexpr const char* kQwen2 =
    "qwen2,layers=2,hidden=36,heads=6,kv_heads=2,intermediate=67,vocab=127,"
    "context=256";
constexpr const char* kQwen3 =
    "qwen3,layers=2,hidden=28,heads=7,kv_heads=7,head_dim=6,intermediate=50,"
    "vocab=101,context=256";
constexpr const char* kMistral =
    "mistral,layers=2,hidden=36,heads=9,kv_heads=3,intermediate=68,vocab=127,"
    "context=256,window=19";
constexpr const char* kGemma2 =
    "gemma2,layers=3,hidden=36,heads=6,kv_heads=3,head_dim=8,intermediate=68,"
    "vocab=127,context=256,window=21";
constexpr const char* kGemma3 =
    "gemma3,layers=7,hidden=24,heads=4,kv_heads=1,head_dim=6,intermediate=33,"
    "vocab=127,context=256,window=17";
constexpr const char* kGpt2 =
    "gpt2,layers=2,hidden=30,heads=5,intermediate=67,vocab=127,context=256";
constexpr const char* kDeep =
    "llama,layers=5,hidden=18,heads=3,kv_heads=1,intermediate=20,vocab=31,"
    "context=256";

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      // One rank: the step alone.
      {"llama_one", kLlama93, {.batch = 2}},
      {"gpt2_one", kGpt2, {.batch = 2, .chunk = 1}},
      {"gemma3_one", kGemma3, {.batch = 2, .chunk = 7}},
      // Query heads that do not divide; key/value heads that ranks share.
      {"llama93_tp2", kLlama93, {.tp = 2, .batch = 2}},
      {"llama93_tp3", kLlama93, {.tp = 3, .chunk = 15}},
      {"llama93_tp3_chunk16", kLlama93, {.tp = 3, .chunk = 16}},
      {"llama93_tp4", kLlama93, {.tp = 4, .batch = 2}},
      {"llama93_tp5", kLlama93, {.tp = 5, .chunk = 20}},
      {"llama93_tp6", kLlama93, {.tp = 6, .chunk = 18}},
      {"llama93_tp8", kLlama93, {.tp = 8}},
      {"llama93_tp9", kLlama93, {.tp = 9, .chunk = 27}},
      {"llama93_tp4_whole_rows",
       kLlama93,
       {.tp = 4, .sequenceParallel = false}},
      {"llama55_tp2", kLlama55, {.tp = 2, .chunk = 8}},
      {"llama55_tp3", kLlama55, {.tp = 3, .chunk = 9}},
      {"llama55_tp4", kLlama55, {.tp = 4, .batch = 2}},
      {"llama55_tp5_whole_rows",
       kLlama55,
       {.tp = 5, .sequenceParallel = false}},
      {"llama62_tp2", kLlama62, {.tp = 2}},
      {"llama62_tp3", kLlama62, {.tp = 3, .batch = 3, .chunk = 12}},
      {"llama62_tp4", kLlama62, {.tp = 4}},
      {"llama62_tp6", kLlama62, {.tp = 6, .chunk = 6}},
      {"llama62_tp4_chunk_of_tp", kLlama62, {.tp = 4, .chunk = 4}},
      // Decode's batch is a whole number of ranks.
      {"llama62_tp2_batch4", kLlama62, {.tp = 2, .batch = 4}},
      // Every family.
      {"qwen2_tp2", kQwen2, {.tp = 2}},
      {"qwen2_tp4_whole_rows", kQwen2, {.tp = 4, .sequenceParallel = false}},
      {"qwen3_tp2", kQwen3, {.tp = 2}},
      {"qwen3_tp3", kQwen3, {.tp = 3, .chunk = 9}},
      {"mistral_tp2", kMistral, {.tp = 2}},
      {"mistral_tp4", kMistral, {.tp = 4}},
      {"gemma2_tp2", kGemma2, {.tp = 2}},
      {"gemma2_tp4", kGemma2, {.tp = 4, .sequenceParallel = false}},
      {"gemma3_tp3", kGemma3, {.tp = 3, .chunk = 9}},
      {"gpt2_tp2", kGpt2, {.tp = 2}},
      {"gpt2_tp3", kGpt2, {.tp = 3, .batch = 2, .chunk = 21}},
      {"gpt2_tp4_whole_rows", kGpt2, {.tp = 4, .sequenceParallel = false}},
      // Pipelines over layers that do not divide.
      {"deep_pp2", kDeep, {.pp = 2, .batch = 2}},
      {"deep_pp3", kDeep, {.pp = 3}},
      {"deep_pp4", kDeep, {.pp = 4}},
      {"deep_pp5", kDeep, {.pp = 5}},
      {"gemma2_pp3", kGemma2, {.pp = 3}},
      {"gemma3_pp4", kGemma3, {.pp = 4}},
      {"gpt2_pp2", kGpt2, {.pp = 2}},
      {"llama55_tied_pp2", kLlama55, {.pp = 2}},
      // ZeRO over data replicas with sequences of their own.
      {"llama93_dp2", kLlama93, {.dp = 2}},
      {"llama93_dp2_zero3", kLlama93, {.dp = 2, .zero = 3, .batch = 2}},
      {"llama55_dp3_zero3", kLlama55, {.dp = 3, .zero = 3, .batch = 2}},
      {"gpt2_dp3_zero3", kGpt2, {.dp = 3, .zero = 3}},
      {"gemma3_dp2_zero3", kGemma3, {.dp = 2, .zero = 3}},
      {"deep_dp5_zero3", kDeep, {.dp = 5, .zero = 3}},
      // All together.
      {"deep_tp2_pp2", kDeep, {.pp = 2, .tp = 2}},
      {"deep_tp3_pp3", kDeep, {.pp = 3, .tp = 3, .chunk = 15}},
      {"llama93_tp2_dp2_zero3", kLlama93, {.dp = 2, .tp = 2, .zero = 3}},
      {"deep_pp3_dp2_zero3", kDeep, {.dp = 2, .pp = 3, .zero = 3}},
      {"deep_dp2_pp2_tp2_zero3",
       kDeep,
       {.dp = 2, .pp = 2, .tp = 2, .zero = 3, .batch = 2}},
      {"gpt2_dp2_pp2_tp2_zero3", kGpt2, {.dp = 2, .pp = 2, .tp = 2, .zero = 3}},
      {"gemma2_dp2_pp2_tp2_zero3_whole_rows",
       kGemma2,
       {.dp = 2, .pp = 2, .tp = 2, .zero = 3, .sequenceParallel = false}},
      {"qwen3_dp3_tp3_zero3",
       kQwen3,
       {.dp = 3, .tp = 3, .zero = 3, .chunk = 15}},
  };
  return all;
}

INSTANTIATE_TEST_SUITE_P(Meshes, ShardedEqualsModel, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

} // namespace
} // namespace llmc
