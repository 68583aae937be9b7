// SPDX-License-Identifier: Apache-2.0
// Decides which values `backward` computes again instead of reading what
// `forward` saved, and rewrites both: first the two halves of each block
// function, then those of the step, whose saved values are what the calls of
// the blocks still return.
#include "compiler/passes/Differentiate.h"
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_RECOMPUTEACTIVATIONS
#include "compiler/passes/Passes.h.inc"

namespace {

/// Ops that cost about as much as reading what they would save.
bool isCheap(Operation* op) {
  return isa<llm::AddOp, llm::AddBiasOp, llm::MulOp, llm::ScaleOp,
             llm::SoftCapOp, llm::ActivationOp, llm::GatedActivationOp,
             llm::RmsNormOp, llm::LayerNormOp, llm::RopeOp>(op);
}

/// Two functions, of which `backward` reads values of `forward` through
/// arguments.
class Halves {
public:
  /// `counterparts` has the value of `forward` for arguments of `backward`. Of
  /// these, what an op of `forward` makes is saved.
  Halves(func::FuncOp forward, func::FuncOp backward,
         const DenseMap<Value, Value>& counterparts)
      : forward_(forward.getBody().front()),
        backward_(backward.getBody().front()),
        builder_(OpBuilder::atBlockBegin(&backward_)) {
    for (BlockArgument arg : backward_.getArguments()) {
      Value value = counterparts.lookup(arg);
      if (value && value.getDefiningOp())
        savedAs_[arg] = value;
      else if (value)
        mapping_.map(value, arg);
    }
    for (auto get : backward_.getOps<llm::GetParamOp>())
      params_.try_emplace(get.getParam(), get);
  }

  /// Replaces the arguments for saved values by copies of ops and by new last
  /// arguments. Returns the values that these stand for.
  SmallVector<Value> rewrite(llvm::function_ref<bool(Operation*)> isWorthIt) {
    isWorthIt_ = isWorthIt;
    SmallVector<Value> used;
    SmallVector<Operation*> ops;
    for (Operation& op : backward_)
      ops.push_back(&op);
    for (Operation* op : ops)
      for (Value operand : op->getOperands())
        if (Value value = savedAs_.lookup(operand))
          needed_.insert(value);
    for (Operation* op : ops)
      for (Value operand : op->getOperands()) {
        if (Value value = savedAs_.lookup(operand))
          provide(value);
        else if (auto get = operand.getDefiningOp<llm::GetParamOp>())
          placeFirst(get);
      }
    llvm::BitVector isOld(backward_.getNumArguments());
    for (auto [arg, value] : savedAs_) {
      if (!arg.use_empty())
        arg.replaceAllUsesWith(mapping_.lookup(value));
      isOld.set(cast<BlockArgument>(arg).getArgNumber());
    }
    backward_.eraseArguments(isOld);
    return saved_.takeVector();
  }

private:
  bool isAvailable(Value v) {
    return isa<BlockArgument>(v) || needed_.contains(v) ||
           v.getDefiningOp<llm::GetParamOp>() || isRecomputed(v);
  }

  bool isRecomputed(Value v) {
    Operation* def = v.getDefiningOp();
    return def && isWorthIt_(def) &&
           llvm::all_of(def->getOperands(),
                        [&](Value operand) { return isAvailable(operand); });
  }

  /// Reads of parameters come before the copies that use them.
  Value placeFirst(llm::GetParamOp get) {
    if (placed_.insert(get).second)
      get->moveBefore(&backward_, builder_.getInsertionPoint());
    return get.getResult();
  }

  /// Makes `v` known in `backward`, its operands first.
  void provide(Value v) {
    if (mapping_.contains(v))
      return;
    Operation* def = v.getDefiningOp();
    auto get = dyn_cast<llm::GetParamOp>(def);
    if (llm::GetParamOp mine = get ? params_.lookup(get.getParam()) : nullptr) {
      mapping_.map(v, placeFirst(mine));
      return;
    }
    if (!get && !isRecomputed(v)) {
      saved_.insert(v);
      mapping_.map(v, backward_.addArgument(v.getType(), v.getLoc()));
      return;
    }
    for (Value operand : def->getOperands())
      provide(operand);
    builder_.clone(*def, mapping_);
  }

  Block& forward_;
  Block& backward_;
  OpBuilder builder_;
  llvm::function_ref<bool(Operation*)> isWorthIt_;
  llvm::MapVector<Value, Value>
      savedAs_; // argument of backward, value of forward
  llvm::StringMap<llm::GetParamOp> params_; // read in backward
  llvm::SmallPtrSet<Operation*, 8> placed_;
  llvm::SetVector<Value> needed_; // of forward, by ops that stay in backward
  llvm::SetVector<Value> saved_;
  IRMapping mapping_; // forward to backward
};

void setTypes(func::FuncOp func) {
  Block& body = func.getBody().front();
  func.setFunctionType(FunctionType::get(
      func.getContext(), body.getArgumentTypes(),
      SmallVector<Type>(body.getTerminator()->getOperandTypes())));
}

class ActivationRecomputation {
public:
  ActivationRecomputation(ModuleOp module, bool isFull)
      : module_(module), symbols_(module), isFull_(isFull) {}

  void run() {
    for (auto func : module_.getOps<func::FuncOp>())
      if (func->hasAttr(kBackwardOfAttr))
        rewriteBlock(func);
    rewriteStep();
    for (auto& [forward, kept] : keptResults_)
      dropResults(forward, kept);
  }

private:
  static StringAttr nameOf(DictionaryAttr attrs) {
    return attrs ? attrs.getAs<StringAttr>("llm.name") : StringAttr();
  }

  /// The two halves of a block function, and the calls of its backward half.
  void rewriteBlock(func::FuncOp backward) {
    auto forward = symbols_.lookup<func::FuncOp>(
        backward->getAttrOfType<FlatSymbolRefAttr>(kBackwardOfAttr).getValue());
    int64_t numSaved =
        backward->getAttrOfType<IntegerAttr>(kNumSavedAttr).getInt();
    Operation* ret = forward.getBody().front().getTerminator();
    int64_t numResults = ret->getNumOperands() - numSaved;
    int64_t numKept = backward.getNumArguments() - numSaved;
    DenseMap<Value, Value> counterparts;
    for (BlockArgument arg : forward.getArguments())
      counterparts[backward.getArgument(numResults + arg.getArgNumber())] = arg;
    for (int64_t i = 0; i < numSaved; ++i)
      counterparts[backward.getArgument(numKept + i)] =
          ret->getOperand(numResults + i);
    SmallVector<Value> saved =
        Halves(forward, backward, counterparts).rewrite([&](Operation* op) {
          return isFull_ ? isMemoryEffectFree(op) : isCheap(op);
        });
    setTypes(backward);
    backward->setAttr(kNumSavedAttr,
                      OpBuilder(backward).getI64IntegerAttr(saved.size()));
    SmallVector<unsigned> kept;
    for (int64_t i = 0; i < numResults; ++i)
      kept.push_back(i);
    SmallVector<Value> before(ret->getOperands().drop_front(numResults));
    for (Value value : saved)
      kept.push_back(numResults + (llvm::find(before, value) - before.begin()));
    keptResults_.emplace_back(forward, kept);
    forEachCall(backward, [&](func::CallOp call) {
      SmallVector<Value> operands(call.getOperands().take_front(numKept));
      for (unsigned i : ArrayRef(kept).drop_front(numResults))
        operands.push_back(call.getOperand(numKept + i - numResults));
      call.getOperandsMutable().assign(operands);
    });
  }

  void forEachCall(func::FuncOp callee,
                   llvm::function_ref<void(func::CallOp)> visit) {
    SmallVector<func::CallOp> calls;
    module_.walk([&](func::CallOp call) {
      if (call.getCallee() == callee.getName())
        calls.push_back(call);
    });
    for (func::CallOp call : calls)
      visit(call);
  }

  func::FuncOp findSegment(StringRef name) {
    for (auto func : module_.getOps<func::FuncOp>())
      if (auto entry =
              func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr))
        if (entry.getValue() == name)
          return func;
    return {};
  }

  /// `forward` and `backward` of a micro-batch: equal names are equal values.
  void rewriteStep() {
    func::FuncOp forward = findSegment("forward"),
                 backward = findSegment("backward");
    if (!forward || !backward)
      return;
    Operation* ret = forward.getBody().front().getTerminator();
    DenseMap<Attribute, Value> values;
    SmallVector<Value> results;
    SmallVector<DictionaryAttr> resultAttrs, argAttrs;
    llvm::SmallDenseSet<Attribute> read;
    for (BlockArgument arg : backward.getArguments())
      read.insert(nameOf(backward.getArgAttrDict(arg.getArgNumber())));
    for (BlockArgument arg : forward.getArguments())
      values[nameOf(forward.getArgAttrDict(arg.getArgNumber()))] = arg;
    for (auto [i, value] : llvm::enumerate(ret->getOperands())) {
      DictionaryAttr attrs = forward.getResultAttrDict(i);
      if (read.contains(nameOf(attrs))) {
        values[nameOf(attrs)] = value;
        continue;
      }
      results.push_back(value);
      resultAttrs.push_back(attrs);
    }
    DenseMap<Value, Value> counterparts;
    for (BlockArgument arg : backward.getArguments()) {
      DictionaryAttr attrs = backward.getArgAttrDict(arg.getArgNumber());
      Value value = values.lookup(nameOf(attrs));
      counterparts[arg] = value;
      if (!value || !value.getDefiningOp())
        argAttrs.push_back(attrs);
    }
    SmallVector<Value> saved =
        Halves(forward, backward, counterparts).rewrite(isCheap);
    Builder builder(module_.getContext());
    for (auto [i, value] : llvm::enumerate(saved)) {
      results.push_back(value);
      auto name = builder.getStringAttr("saved." + std::to_string(i));
      resultAttrs.push_back(
          builder.getDictionaryAttr(builder.getNamedAttr("llm.name", name)));
      argAttrs.push_back(resultAttrs.back());
    }
    ret->setOperands(results);
    setTypes(forward);
    setTypes(backward);
    forward.setAllResultAttrs(resultAttrs);
    backward.setAllArgAttrs(argAttrs);
  }

  /// Nothing reads the other results any more.
  void dropResults(func::FuncOp forward, ArrayRef<unsigned> kept) {
    Operation* ret = forward.getBody().front().getTerminator();
    SmallVector<Value> results;
    for (unsigned i : kept)
      results.push_back(ret->getOperand(i));
    ret->setOperands(results);
    setTypes(forward);
    forEachCall(forward, [&](func::CallOp call) {
      OpBuilder builder(call);
      auto copy = func::CallOp::create(builder, call.getLoc(), forward,
                                       call.getOperands());
      copy->setDiscardableAttrs(call->getDiscardableAttrDictionary());
      for (auto [i, result] : llvm::enumerate(copy.getResults()))
        call.getResult(kept[i]).replaceAllUsesWith(result);
      call.erase();
    });
  }

  ModuleOp module_;
  SymbolTable symbols_;
  bool isFull_;
  /// Results that stay, of the forward half of each block.
  SmallVector<std::pair<func::FuncOp, SmallVector<unsigned>>> keptResults_;
};

struct RecomputeActivationsPass
    : impl::RecomputeActivationsBase<RecomputeActivationsPass> {
  void runOnOperation() override {
    std::string mode = Options::read(getOperation()).recompute;
    if (mode != "none")
      ActivationRecomputation(getOperation(), mode == "full").run();
  }
};

} // namespace
} // namespace llmc
