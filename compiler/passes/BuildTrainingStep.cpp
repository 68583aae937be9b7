// SPDX-License-Identifier: Apache-2.0
// Makes the segments of a training step (prologue, forward, backward, optimizer) from
// `@forward`. What each does is in docs/design/training.md. Nothing here knows a model
// family, a mesh or a schedule.
#include "compiler/passes/Differentiate.h"
#include "compiler/passes/ModelForm.h"
#include "compiler/passes/Passes.h"
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
constexpr StringLiteral kMicroBatchInputs[] = {"ids", "positions", "starts",
                                               "labels"};

/// Static shape of one micro-batch on one data rank.
struct MicroBatch {
  int64_t sequences;
  int64_t rowsPerSequence;
  int64_t rows() const { return sequences * rowsPerSequence; }
};

class TrainingStepBuilder {
public:
  TrainingStepBuilder(ModuleOp module, const Options& options)
      : module_(module), options_(options), symbols_(module),
        builder_(module.getContext()),
        differentiation_(module) {}

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
    if (failed(buildForwardAndBackward()))
      return failure();
    buildPrologue();
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
             << " equal parts (dp x microbatches); use a multiple of "
             << parts;
    shape_ = {options_.batch / parts, options_.seq};
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
      return module_.emitError("LLMC-E1003: '")
             << options_.freeze << "' is not a pattern of names";
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
      return module_.emitError("LLMC-E1003: no parameter matches '")
             << options_.freeze << "'";
    if (!isAnyLeft)
      return module_.emitError("LLMC-E1003: every parameter matches '")
             << options_.freeze << "': nothing is left to train";
    return success();
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
    declareState("loss", tensor({1}, f32()), llm::StateRole::scalar);
    for (auto param : module_.getOps<llm::ParamOp>())
      if (!isFrozen(param.getSymName()))
        trained_.push_back(param);
    declareState("norm_terms",
                 tensor({static_cast<int64_t>(trained_.size())},
                        builder_.getF64Type()),
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

  func::FuncOp createMicroBatchSegment(StringRef name) {
    auto type = tensor({shape_.sequences, shape_.rowsPerSequence},
                       builder_.getI32Type());
    SmallVector<StringRef> names(std::begin(kMicroBatchInputs),
                                 std::end(kMicroBatchInputs));
    return createSegment(name, names, SmallVector<Type>(names.size(), type));
  }

  void buildPrologue() {
    auto type = tensor({options_.microbatches * shape_.sequences,
                        shape_.rowsPerSequence},
                       builder_.getI32Type());
    func::FuncOp func = createSegment("prologue", {"labels"}, {type});
    Value labels = func.getArgument(0);
    for (auto state : module_.getOps<llm::StateOp>())
      if (state.getRole() == llm::StateRole::gradient ||
          state.getRole() == llm::StateRole::scalar)
        llm::ZeroStateOp::create(builder_, state.getLoc(), state.getSymName());
    Value count = llm::CountLabelsOp::create(builder_, named("count"),
                                             tensor({1}, f32()), labels);
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
    func::FuncOp forward = createMicroBatchSegment("forward");
    Block& body = forward.getBody().front();
    starts_ = body.getArgument(2);
    IRMapping mapping;
    for (unsigned i : {0, 1})
      mapping.map(forward_.getArgument(i), body.getArgument(i));
    SmallVector<Value> results;
    if (failed(cloneBody(forward_, mapping, results)))
      return failure();
    Value logits = results.front(), labels = body.getArgument(3);
    int64_t rows = shape_.rows(), parts = meshAxisSize(module_, "tp");
    Location loc = named("loss");
    Value statistics = llm::CrossEntropyStatisticsOp::create(
        builder_, loc, tensor({parts, rows, 3}, f32()), logits, labels,
        Attribute(), Attribute());
    Type rowType = tensor({rows}, f32());
    auto loss = llm::CrossEntropyLossOp::create(builder_, loc, rowType, rowType,
                                                statistics, labels);
    auto weightsOf = [&](Value l) -> Value {
      return llm::TokenWeightsOp::create(builder_, loc, rowType, l,
                                         readState("count"));
    };
    Value sum = llm::WeightedSumOp::create(builder_, loc, tensor({1}, f32()),
                                           loss.getLoss(), weightsOf(labels));
    llm::AccumulateOp::create(builder_, loc, sum, "loss");

    func::FuncOp backward = createMicroBatchSegment("backward");
    Block& gradients = backward.getBody().front();
    Value dlogits = llm::CrossEntropyGradientOp::create(
        builder_, loc, logits.getType(), logits, gradients.getArgument(3),
        loss.getLogSum(), weightsOf(gradients.getArgument(3)), Attribute(),
        Attribute());
    auto isWanted = [&](Value v) {
      auto get = v.getDefiningOp<llm::GetParamOp>();
      return get && !isFrozen(get.getParam());
    };
    auto accumulate = [&](llm::GetParamOp get, Value gradient) {
      llm::AccumulateOp::create(builder_, get.getLoc(), gradient,
                                get.getParam().str() + ".gradient");
    };
    DenseMap<Value, Value> found;
    if (failed(differentiation_.differentiate(
            body, builder_, {{logits, dlogits}}, isWanted, accumulate, found)))
      return failure();
    IRMapping inputs;
    inputs.map(body.getArguments(), gradients.getArguments());
    SmallVector<Value> saved =
        differentiation_.saveValues(body, gradients, inputs);
    SmallVector<std::string> names;
    for (unsigned i = 0; i < saved.size(); ++i)
      names.push_back("saved." + std::to_string(i));
    SmallVector<StringRef> views(names.begin(), names.end());
    finishSegment(forward, saved, views);
    finishSegment(backward, {}, {});
    SmallVector<StringRef> inputNames(std::begin(kMicroBatchInputs),
                                      std::end(kMicroBatchInputs));
    inputNames.append(views);
    nameArguments(backward, inputNames);
    return success();
  }

  /// Names all arguments; those that were added have no attributes yet.
  void nameArguments(func::FuncOp func, ArrayRef<StringRef> names) {
    SmallVector<DictionaryAttr> attrs;
    for (StringRef name : names)
      attrs.push_back(builder_.getDictionaryAttr(
          builder_.getNamedAttr("llm.name", builder_.getStringAttr(name))));
    func.setAllArgAttrs(attrs);
  }

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
    Value own = llm::SumTermsOp::create(builder_, loc, one,
                                        readState("norm_terms"));
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

  // --- the forward pass on static rows ---

  /// ids and positions become [S, R], activations [S*R, C].
  Type staticType(Type type) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor || tensor.hasStaticShape())
      return type;
    SmallVector<int64_t> shape(tensor.getShape());
    if (tensor.getElementType().isInteger(32) && shape.size() == 2)
      shape = {shape_.sequences, shape_.rowsPerSequence};
    else
      shape[0] = shape_.rows();
    return tensor.clone(shape);
  }

  LogicalResult cloneBody(func::FuncOp func, IRMapping& mapping,
                          SmallVector<Value>& results) {
    for (Operation& op : func.getBody().front()) {
      if (auto ret = dyn_cast<func::ReturnOp>(op)) {
        for (Value v : ret.getOperands())
          results.push_back(mapping.lookup(v));
        continue;
      }
      if (auto attention = dyn_cast<llm::AttentionOp>(op)) {
        cloneAttention(attention, mapping);
        continue;
      }
      if (auto output = dyn_cast<llm::OutputRowsOp>(op)) {
        mapping.map(output.getResult(), mapping.lookup(output.getX()));
        continue;
      }
      if (auto call = dyn_cast<func::CallOp>(op)) {
        if (failed(cloneCall(call, mapping)))
          return failure();
        continue;
      }
      Operation* copy = builder_.clone(op, mapping);
      for (OpResult result : copy->getResults())
        result.setType(staticType(result.getType()));
      if (auto get = dyn_cast<llm::GetParamOp>(copy)) {
        auto param = symbols_.lookup<llm::ParamOp>(get.getParam());
        get.getResult().setType(cast<RankedTensorType>(param.getType()));
      }
    }
    return success();
  }

  void cloneAttention(llm::AttentionOp op, IRMapping& mapping) {
    int64_t heads = op.getNumHeads();
    Value q = mapping.lookup(op.getQ());
    auto attention = llm::RowAttentionOp::create(
        builder_, op.getLoc(),
        TypeRange{q.getType(), tensor({shape_.rows(), heads}, f32())}, q,
        mapping.lookup(op.getK()), mapping.lookup(op.getV()), starts_,
        op.getHeadDimAttr(),
        builder_.getI64IntegerAttr(heads / op.getNumKvHeads()),
        op.getScaleAttr(), op.getWindowAttr(), op.getSoftcapAttr(),
        TypeAttr::get(dtype_), Attribute());
    mapping.map(op.getResult(), attention.getResult());
  }

  LogicalResult cloneCall(func::CallOp call, IRMapping& mapping) {
    auto callee = symbols_.lookup<func::FuncOp>(call.getCallee());
    if (!callee || callee.isDeclaration())
      return call.emitOpError("expects a block function with a body, got @")
             << call.getCallee();
    SmallVector<Value> operands;
    for (Value v : call.getOperands())
      operands.push_back(mapping.lookup(v));
    operands.push_back(starts_);
    DifferentiatedBlock*& block = blocks_[callee];
    if (!block && failed(specialise(callee, operands, block)))
      return failure();
    auto copy = func::CallOp::create(builder_, call.getLoc(), block->forward,
                                     operands);
    for (auto [old, result] : llvm::zip(call.getResults(), copy.getResults()))
      mapping.map(old, result);
    return success();
  }

  /// Clones a block function for static rows, with one argument more (starts), and
  /// splits the clone.
  LogicalResult specialise(func::FuncOp callee, ArrayRef<Value> operands,
                           DifferentiatedBlock*& block) {
    OpBuilder::InsertionGuard guard(builder_);
    Value entryStarts = starts_;
    builder_.setInsertionPoint(forward_);
    auto copy = func::FuncOp::create(builder_, callee.getLoc(),
                                     (callee.getName() + ".forward").str(),
                                     builder_.getFunctionType({}, {}));
    copy.setPrivate();
    copy->setAttr(llm::LlmDialect::kBlockAttr, builder_.getUnitAttr());
    Block* body = new Block();
    copy.getBody().push_back(body);
    IRMapping mapping;
    for (auto [arg, value] : llvm::zip(callee.getArguments(), operands))
      mapping.map(arg, body->addArgument(value.getType(), arg.getLoc()));
    starts_ = body->addArgument(entryStarts.getType(), named("starts"));
    builder_.setInsertionPointToStart(body);
    SmallVector<Value> results;
    if (failed(cloneBody(callee, mapping, results)))
      return failure();
    func::ReturnOp::create(builder_, callee.getLoc(), results);
    starts_ = entryStarts;
    std::vector<bool> wanted = wantedArguments(callee);
    auto split = differentiation_.splitBlock(
        copy, [&](unsigned i) { return i < wanted.size() && wanted[i]; });
    if (failed(split))
      return failure();
    block = *split;
    return success();
  }

  /// Arguments that some call gives something trained, or no parameter at all.
  std::vector<bool> wantedArguments(func::FuncOp callee) {
    std::vector<bool> wanted(callee.getNumArguments(), false);
    forward_.walk([&](func::CallOp call) {
      if (call.getCallee() != callee.getName())
        return;
      for (auto [i, v] : llvm::enumerate(call.getOperands())) {
        auto get = v.getDefiningOp<llm::GetParamOp>();
        wanted[i] = wanted[i] || !get || !isFrozen(get.getParam());
      }
    });
    return wanted;
  }

  ModuleOp module_;
  const Options& options_;
  SymbolTable symbols_;
  OpBuilder builder_;
  Differentiation differentiation_;
  func::FuncOp forward_;
  MicroBatch shape_ = {};
  Type dtype_;
  Value starts_;
  SmallVector<llm::ParamOp> trained_;
  DenseMap<func::FuncOp, DifferentiatedBlock*> blocks_;
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
