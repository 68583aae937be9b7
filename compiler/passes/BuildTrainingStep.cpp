// SPDX-License-Identifier: Apache-2.0
// Makes the segments of a training step (prologue, forward, backward, loss,
// optimizer) from
// `@forward`. What each does is in docs/design/training.md. Nothing here knows
// a model family, a mesh or a schedule.
#include "compiler/passes/ModelForm.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/TrainingForward.h"
#include "dialects/dist/Dist.h"
#include "dialects/plan/Plan.h"

#include "llvm/Support/GlobPattern.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_BUILDTRAININGSTEP
#include "compiler/passes/Passes.h.inc"

namespace {

constexpr StringLiteral kFrozenAttr = "llm.frozen";
constexpr int64_t kHyperparameters = 16;
constexpr int64_t kPreferenceTerms = 6;
constexpr StringLiteral kMicroBatchInputs[] = {"ids", "positions", "starts",
                                               "labels"};

class TrainingStepBuilder {
public:
  TrainingStepBuilder(ModuleOp module, const Options& options)
      : module_(module), options_(options), symbols_(module),
        builder_(module.getContext()), differentiation_(module),
        isPreference_(options.objective == "dpo") {}

  LogicalResult run() {
    forward_ = symbols_.lookup<func::FuncOp>("forward");
    if (!forward_)
      return module_.emitError("expects a function @forward");
    if (failed(checkModel(forward_)) || failed(setMicroBatch()) ||
        failed(freeze()))
      return failure();
    dtype_ = computeDtype(options_, module_.getContext());
    convertParameters(module_, dtype_);
    SmallVector<func::FuncOp> old(module_.getOps<func::FuncOp>());
    declareScalars();
    if (hasReference())
      declareReference();
    if (failed(buildForwardAndBackward()))
      return failure();
    buildPrologue();
    buildLoss();
    buildOptimizer();
    for (func::FuncOp func : old)
      symbols_.erase(func);
    return success();
  }

private:
  LogicalResult setMicroBatch() {
    int64_t parts = meshAxisSize(module_, "dp") * options_.microbatches;
    if (options_.batch % parts != 0)
      return module_.emitError("LLMC-E1002: a batch of ")
             << options_.batch << " sequences cannot be cut into " << parts
             << " equal parts (dp x microbatches); use a multiple of " << parts;
    shape_ = {options_.batch / parts, options_.seq};
    if (isPreference_ && shape_.sequences % 2 != 0)
      return module_.emitError("LLMC-E1002: a micro-batch of ")
             << shape_.sequences
             << " sequences cannot hold pairs of chosen and rejected answers; "
                "use a batch that is a multiple of "
             << 2 * parts;
    if (options_.batch * options_.seq > (int64_t(1) << 24))
      return module_.emitError("LLMC-E1002: a step of more than 2^24 tokens "
                               "cannot be counted; use a smaller batch");
    return success();
  }

  /// Marks parameters whose names match the pattern.
  LogicalResult freeze() {
    if (options_.freeze.empty())
      return success();
    auto pattern = llvm::GlobPattern::create(options_.freeze);
    if (!pattern) {
      llvm::consumeError(pattern.takeError());
      return module_.emitError("LLMC-E0102: --freeze='")
             << options_.freeze
             << "' is not a pattern of names; write one with *, ? and [..]";
    }
    bool isAny = false, isAnyLeft = false;
    for (auto param : module_.getOps<llm::ParamOp>())
      if (pattern->match(param.getSymName())) {
        param->setAttr(kFrozenAttr, builder_.getUnitAttr());
        isAny = true;
      } else {
        isAnyLeft = true;
      }
    if (!isAny)
      return module_.emitError("LLMC-E0102: --freeze='")
             << options_.freeze
             << "': no parameter has such a name; llmc inspect MODEL.mlir "
                "--output=json lists them";
    if (!isAnyLeft)
      return module_.emitError("LLMC-E0102: --freeze='")
             << options_.freeze
             << "': every parameter matches, and nothing is left to train";
    return success();
  }

  /// Whether the reference model is part of the step; else its losses are
  /// inputs.
  bool hasReference() const {
    return isPreference_ && options_.reference == "plan";
  }

  /// A frozen copy of every parameter, loaded from a weight set of its own.
  void declareReference() {
    SmallVector<llm::ParamOp> params(module_.getOps<llm::ParamOp>());
    for (llm::ParamOp param : params) {
      auto copy = param.clone();
      copy.setSymName((kReferencePrefix + param.getSymName()).str());
      copy.setWeightSet(kReferenceSet);
      copy->setAttr(kFrozenAttr, builder_.getUnitAttr());
      OpBuilder::InsertionGuard guard(builder_);
      builder_.setInsertionPoint(forward_);
      builder_.insert(copy);
      symbols_.insert(copy);
    }
  }

  bool isFrozen(StringRef param) {
    return symbols_.lookup(param)->hasAttr(kFrozenAttr);
  }

  Type f32() { return builder_.getF32Type(); }

  RankedTensorType tensor(ArrayRef<int64_t> shape, Type element) {
    return RankedTensorType::get(shape, element);
  }

  Location named(StringRef name) {
    return NameLoc::get(builder_.getStringAttr(name));
  }

  // --- states ---

  llm::StateOp declareState(const std::string& name, RankedTensorType type,
                            llm::StateRole role, StringRef param = "") {
    OpBuilder::InsertionGuard guard(builder_);
    builder_.setInsertionPoint(forward_);
    auto state = llm::StateOp::create(
        builder_, named(name), name, type, role,
        param.empty() ? FlatSymbolRefAttr()
                      : FlatSymbolRefAttr::get(builder_.getContext(), param),
        Attribute());
    symbols_.insert(state);
    return state;
  }

  void declareScalars() {
    declareState("count", tensor({1}, f32()), llm::StateRole::scalar);
    declareState("loss", tensor({isPreference_ ? kPreferenceTerms : 1}, f32()),
                 llm::StateRole::scalar);
    for (auto param : module_.getOps<llm::ParamOp>())
      if (!isFrozen(param.getSymName()))
        trained_.push_back(param);
    declareState(
        "norm_terms",
        tensor({static_cast<int64_t>(trained_.size())}, builder_.getF64Type()),
        llm::StateRole::scalar);
    for (llm::ParamOp param : trained_) {
      StringRef name = param.getSymName();
      auto type = cast<RankedTensorType>(param.getType()).clone(f32());
      for (auto [suffix, role] :
           {std::pair{".gradient", llm::StateRole::gradient},
            std::pair{".moment1", llm::StateRole::moment1},
            std::pair{".moment2", llm::StateRole::moment2}})
        declareState(name.str() + suffix, type, role, name);
      if (!cast<RankedTensorType>(param.getType()).getElementType().isF32())
        declareState(name.str() + ".master", type, llm::StateRole::master,
                     name);
    }
  }

  Value readState(StringRef name) {
    auto state = symbols_.lookup<llm::StateOp>(name);
    return llm::ReadStateOp::create(builder_, state.getLoc(), state.getType(),
                                    name);
  }

  // --- segments ---

  func::FuncOp createSegment(StringRef name, ArrayRef<StringRef> argNames,
                             ArrayRef<Type> argTypes) {
    builder_.setInsertionPoint(forward_);
    auto func = func::FuncOp::create(builder_, forward_.getLoc(),
                                     ("step." + name).str(),
                                     builder_.getFunctionType(argTypes, {}));
    func->setAttr(llm::LlmDialect::kEntryAttr, builder_.getStringAttr(name));
    Block* block = func.addEntryBlock();
    for (auto [i, argName] : llvm::enumerate(argNames)) {
      func.setArgAttr(i, "llm.name", builder_.getStringAttr(argName));
      block->getArgument(i).setLoc(named(argName));
    }
    builder_.setInsertionPointToStart(block);
    return func;
  }

  void finishSegment(func::FuncOp func, ArrayRef<Value> results,
                     ArrayRef<StringRef> names) {
    builder_.setInsertionPointToEnd(&func.getBody().front());
    func::ReturnOp::create(builder_, func.getLoc(), results);
    func.setFunctionType(builder_.getFunctionType(
        func.getBody().front().getArgumentTypes(),
        SmallVector<Type>(ValueRange(results).getTypes())));
    for (auto [i, name] : llvm::enumerate(names))
      func.setResultAttr(i, "llm.name", builder_.getStringAttr(name));
  }

  func::FuncOp createMicroBatchSegment(StringRef name,
                                       ArrayRef<StringRef> moreNames = {},
                                       ArrayRef<Type> moreTypes = {}) {
    auto type = tensor({shape_.sequences, shape_.rowsPerSequence},
                       builder_.getI32Type());
    SmallVector<StringRef> names(std::begin(kMicroBatchInputs),
                                 std::end(kMicroBatchInputs));
    SmallVector<Type> types(names.size(), type);
    llvm::append_range(names, moreNames);
    llvm::append_range(types, moreTypes);
    return createSegment(name, names, types);
  }

  func::FuncOp createForward() {
    if (!isPreference_)
      return createMicroBatchSegment("forward");
    Type hyper = tensor({kHyperparameters}, f32());
    if (hasReference())
      return createMicroBatchSegment("forward", {"hyper"}, {hyper});
    return createMicroBatchSegment("forward", {"hyper", "reference_loss"},
                                   {hyper, tensor({shape_.rows()}, f32())});
  }

  void buildPrologue() {
    auto type = tensor(
        {options_.microbatches * shape_.sequences, shape_.rowsPerSequence},
        builder_.getI32Type());
    func::FuncOp func = createSegment("prologue", {"labels"}, {type});
    Value labels = func.getArgument(0);
    for (auto state : module_.getOps<llm::StateOp>())
      if (state.getRole() == llm::StateRole::gradient ||
          state.getRole() == llm::StateRole::scalar)
        llm::ZeroStateOp::create(builder_, state.getLoc(), state.getSymName());
    int64_t unit = isPreference_ ? 2 * shape_.rowsPerSequence : 1;
    Value count = llm::CountLabelsOp::create(builder_, named("count"),
                                             tensor({1}, f32()), labels, unit);
    llm::AccumulateOp::create(builder_, named("count"), count, "count");
    finishSegment(func, {}, {});
  }

  /// A table of learned positions must reach to the end of a sequence.
  LogicalResult checkPositions() {
    for (auto embedding : forward_.getOps<llm::EmbeddingOp>()) {
      int64_t rows =
          cast<RankedTensorType>(embedding.getTable().getType()).getDimSize(0);
      if (embedding.getIds() == forward_.getArgument(1) &&
          rows < shape_.rowsPerSequence)
        return module_.emitError("LLMC-E1002: sequences of ")
               << shape_.rowsPerSequence << " tokens for a model of " << rows
               << " positions; use --seq=" << rows << " or less";
    }
    return success();
  }

  LogicalResult buildForwardAndBackward() {
    if (failed(checkPositions()))
      return failure();
    func::FuncOp forward = createForward();
    Block& body = forward.getBody().front();
    auto isTrained = [&](StringRef param) { return !isFrozen(param); };
    TrainingForward copies(forward_, symbols_, differentiation_, shape_, dtype_,
                           isTrained);
    auto logits =
        copies.write(builder_, body.getArgument(0), body.getArgument(1),
                     body.getArgument(2), hasReference());
    if (failed(logits))
      return failure();
    llm::CrossEntropyLossOp loss =
        rowLosses(logits->model, body.getArgument(3));
    Value pairWeights =
        isPreference_
            ? addPreferenceLoss(loss.getLoss(), logits->reference, body)
            : addTokenLoss(loss.getLoss(), body.getArgument(3));

    func::FuncOp backward = createMicroBatchSegment("backward");
    Block& gradients = backward.getBody().front();
    Value labels = gradients.getArgument(3);
    // Weights of tokens are made again: that costs less than keeping them.
    Value weights = pairWeights ? pairWeights : tokenWeights(labels);
    Value dlogits = llm::CrossEntropyGradientOp::create(
        builder_, named("loss"), logits->model.getType(), logits->model, labels,
        loss.getLogSum(), weights, Attribute(), Attribute());
    auto isWanted = [&](Value v) {
      auto get = v.getDefiningOp<llm::GetParamOp>();
      return get && !isFrozen(get.getParam());
    };
    auto accumulate = [&](llm::GetParamOp get, Value gradient) {
      llm::AccumulateOp::create(builder_, get.getLoc(), gradient,
                                get.getParam().str() + ".gradient");
    };
    DenseMap<Value, Value> found;
    if (failed(differentiation_.differentiate(body, builder_,
                                              {{logits->model, dlogits}},
                                              isWanted, accumulate, found)))
      return failure();
    IRMapping inputs;
    inputs.map(body.getArguments().take_front(gradients.getNumArguments()),
               gradients.getArguments());
    SmallVector<Value> saved =
        differentiation_.saveValues(body, gradients, inputs);
    SmallVector<std::string> names;
    for (unsigned i = 0; i < saved.size(); ++i)
      names.push_back("saved." + std::to_string(i));
    SmallVector<StringRef> views(names.begin(), names.end());
    SmallVector<Value> results(saved);
    SmallVector<StringRef> resultNames(views);
    if (isPreference_ && !hasReference()) {
      results.push_back(loss.getLoss());
      resultNames.push_back("row_loss");
    }
    finishSegment(forward, results, resultNames);
    finishSegment(backward, {}, {});
    SmallVector<StringRef> inputNames(std::begin(kMicroBatchInputs),
                                      std::end(kMicroBatchInputs));
    inputNames.append(views);
    nameArguments(backward, inputNames);
    return success();
  }

  /// -log p of the labels, and the logarithms of the sums.
  llm::CrossEntropyLossOp rowLosses(Value logits, Value labels) {
    int64_t rows = shape_.rows(), parts = meshAxisSize(module_, "tp");
    Location loc = named("loss");
    Value statistics = llm::CrossEntropyStatisticsOp::create(
        builder_, loc, tensor({parts, rows, 3}, f32()), logits, labels,
        Attribute(), Attribute());
    Type rowType = tensor({rows}, f32());
    return llm::CrossEntropyLossOp::create(builder_, loc, rowType, rowType,
                                           statistics, labels);
  }

  Value tokenWeights(Value labels) {
    return llm::TokenWeightsOp::create(builder_, named("loss"),
                                       tensor({shape_.rows()}, f32()), labels,
                                       readState("count"));
  }

  /// The mean over counted tokens. Returns null: no weights need to be kept.
  Value addTokenLoss(Value rowLoss, Value labels) {
    Location loc = named("loss");
    Value sum = llm::WeightedSumOp::create(builder_, loc, tensor({1}, f32()),
                                           rowLoss, tokenWeights(labels));
    llm::AccumulateOp::create(builder_, loc, sum, "loss");
    return {};
  }

  /// The loss of pairs; `body` is that of `forward`. Returns the weights of
  /// rows.
  Value addPreferenceLoss(Value rowLoss, Value referenceLogits, Block& body) {
    Location loc = named("loss");
    Value labels = body.getArgument(3), hyper = body.getArgument(4);
    Value reference;
    if (hasReference())
      reference = rowLosses(referenceLogits, labels).getLoss();
    else
      reference = body.getArgument(5);
    auto kind = llm::symbolizePreferenceLossKind(options_.preferenceLoss);
    auto loss = llm::PreferenceLossOp::create(
        builder_, loc, tensor({shape_.rows()}, f32()),
        tensor({kPreferenceTerms}, f32()), rowLoss, reference, labels,
        readState("count"), hyper,
        kind.value_or(llm::PreferenceLossKind::sigmoid));
    llm::AccumulateOp::create(builder_, loc, loss.getTerms(), "loss");
    return loss.getWeights();
  }

  /// Names all arguments; those that were added have no attributes yet.
  void nameArguments(func::FuncOp func, ArrayRef<StringRef> names) {
    SmallVector<DictionaryAttr> attrs;
    for (StringRef name : names)
      attrs.push_back(builder_.getDictionaryAttr(
          builder_.getNamedAttr("llm.name", builder_.getStringAttr(name))));
    func.setAllArgAttrs(attrs);
  }

  /// Where ranks add their parts of the loss. Evaluation ends with it.
  void buildLoss() { finishSegment(createSegment("loss", {}, {}), {}, {}); }

  void buildOptimizer() {
    func::FuncOp func = createSegment("optimizer", {"hyper"},
                                      {tensor({kHyperparameters}, f32())});
    Value hyper = func.getArgument(0);
    for (auto [i, param] : llvm::enumerate(trained_)) {
      std::string name = param.getSymName().str();
      llm::SquareSumOp::create(builder_, named(name),
                               readState(name + ".gradient"), "norm_terms", i,
                               ArrayAttr());
    }
    Location loc = named("norm");
    auto one = tensor({1}, builder_.getF64Type());
    Value own =
        llm::SumTermsOp::create(builder_, loc, one, readState("norm_terms"));
    Value norm = llm::GlobalNormOp::create(builder_, loc, tensor({4}, f32()),
                                           own, hyper);
    for (llm::ParamOp param : trained_) {
      std::string name = param.getSymName().str();
      auto symbol = [&](StringRef suffix) {
        return FlatSymbolRefAttr::get(builder_.getContext(),
                                      name + suffix.str());
      };
      bool hasMaster = symbols_.lookup(name + ".master") != nullptr;
      bool isMatrix = cast<RankedTensorType>(param.getType()).getRank() == 2;
      llm::AdamwOp::create(builder_, named(name), symbol(""),
                           readState(name + ".gradient"), norm, hyper,
                           symbol(".moment1"), symbol(".moment2"),
                           hasMaster ? symbol(".master") : FlatSymbolRefAttr(),
                           isMatrix ? builder_.getUnitAttr() : UnitAttr());
    }
    finishSegment(func, {norm}, {"norm"});
  }

  ModuleOp module_;
  const Options& options_;
  SymbolTable symbols_;
  OpBuilder builder_;
  Differentiation differentiation_;
  func::FuncOp forward_;
  MicroBatch shape_ = {};
  Type dtype_;
  bool isPreference_;
  SmallVector<llm::ParamOp> trained_;
};

struct BuildTrainingStepPass
    : impl::BuildTrainingStepBase<BuildTrainingStepPass> {
  void runOnOperation() override {
    Options options = Options::read(getOperation());
    if (failed(TrainingStepBuilder(getOperation(), options).run()))
      signalPassFailure();
  }
};

} // namespace
} // namespace llmc
