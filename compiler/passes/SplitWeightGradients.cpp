// SPDX-License-Identifier: Apache-2.0
// For schedule zero-bubble: cuts `backward` into `backward_input`, which makes
// the gradient that the previous stage waits for, and `backward_weight`, which
// can wait. The second holds the ops whose results end in states alone.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_SPLITWEIGHTGRADIENTS
#include "compiler/passes/Passes.h.inc"

namespace {

StringRef entryOf(func::FuncOp func) {
  auto entry = func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
  return entry ? entry.getValue() : StringRef();
}

/// Ops that both halves may hold.
bool isRead(Operation* op) {
  return isa<llm::GetParamOp, llm::ReadStateOp>(op);
}

class WeightGradientSplitter {
public:
  explicit WeightGradientSplitter(func::FuncOp backward)
      : backward_(backward), body_(backward.getBody().front()),
        builder_(backward.getContext()) {}

  void run() {
    findDeferred();
    func::FuncOp weight = createWeightFunction();
    // Users before makers.
    for (Operation* op : llvm::reverse(deferred_))
      op->erase();
    finishInput();
    weight->moveAfter(backward_);
  }

private:
  /// An op waits if all that comes of it is added to states.
  void findDeferred() {
    llvm::SmallPtrSet<Operation*, 32> members;
    SmallVector<Operation*> reversed;
    for (Operation& op : llvm::reverse(body_.without_terminator())) {
      bool isAddition = isa<llm::AccumulateOp, llm::ZeroStateOp>(op);
      bool isOnlyForThem = !op.use_empty() && !isRead(&op) &&
                           llvm::all_of(op.getUsers(), [&](Operation* user) {
                             return members.contains(user);
                           });
      if (!isAddition && !isOnlyForThem)
        continue;
      members.insert(&op);
      reversed.push_back(&op);
    }
    deferred_.assign(reversed.rbegin(), reversed.rend());
  }

  func::FuncOp createWeightFunction() {
    builder_.setInsertionPoint(backward_);
    auto func = cast<func::FuncOp>(backward_->cloneWithoutRegions());
    func.setName(backward_.getName().str() + ".weight");
    builder_.insert(func);
    func->setAttr(llm::LlmDialect::kEntryAttr,
                  builder_.getStringAttr("backward_weight"));
    Block* block = new Block();
    func.getBody().push_back(block);
    IRMapping mapping;
    builder_.setInsertionPointToStart(block);
    SmallVector<DictionaryAttr> argAttrs;
    for (Operation* op : deferred_) {
      for (Value v : op->getOperands()) {
        if (mapping.contains(v))
          continue;
        Operation* def = v.getDefiningOp();
        if (def && isRead(def)) {
          builder_.clone(*def, mapping);
          continue;
        }
        std::string name = nameFor(v);
        mapping.map(
            v, block->addArgument(v.getType(),
                                  NameLoc::get(builder_.getStringAttr(name))));
        argAttrs.push_back(builder_.getDictionaryAttr(
            builder_.getNamedAttr("llm.name", builder_.getStringAttr(name))));
      }
      builder_.clone(*op, mapping);
    }
    func::ReturnOp::create(builder_, func.getLoc());
    func.setFunctionType(
        builder_.getFunctionType(block->getArgumentTypes(), {}));
    func.setAllArgAttrs(argAttrs);
    func.setAllResultAttrs(ArrayRef<DictionaryAttr>());
    return func;
  }

  /// What `backward_weight` calls a value of `backward`: what it was saved as,
  /// or a new deferred value. A received gradient is gone by then, so it is
  /// copied.
  std::string nameFor(Value v) {
    if (auto arg = dyn_cast<BlockArgument>(v)) {
      auto name = backward_.getArgAttrOfType<StringAttr>(arg.getArgNumber(),
                                                         "llm.name");
      if (!name.getValue().starts_with("received_gradient."))
        return name.str();
      OpBuilder::InsertionGuard guard(builder_);
      builder_.setInsertionPointToStart(&body_);
      v = dist::CopyOp::create(builder_, arg.getLoc(), arg.getType(), arg);
    }
    names_.push_back("deferred." + std::to_string(names_.size()));
    deferredValues_.push_back(v);
    return names_.back();
  }

  void finishInput() {
    backward_->setAttr(llm::LlmDialect::kEntryAttr,
                       builder_.getStringAttr("backward_input"));
    Operation* ret = body_.getTerminator();
    SmallVector<DictionaryAttr> attrs;
    for (unsigned i = 0; i < ret->getNumOperands(); ++i)
      attrs.push_back(backward_.getResultAttrDict(i));
    for (auto [value, name] : llvm::zip(deferredValues_, names_)) {
      // A value that crosses to the previous stage too is copied.
      if (llvm::is_contained(ret->getOperands(), value)) {
        builder_.setInsertionPoint(ret);
        value = dist::CopyOp::create(builder_, value.getLoc(), value.getType(),
                                     value);
      }
      ret->insertOperands(ret->getNumOperands(), value);
      attrs.push_back(builder_.getDictionaryAttr(
          builder_.getNamedAttr("llm.name", builder_.getStringAttr(name))));
    }
    backward_.setFunctionType(builder_.getFunctionType(
        body_.getArgumentTypes(), SmallVector<Type>(ret->getOperandTypes())));
    backward_.setAllResultAttrs(attrs);
  }

  func::FuncOp backward_;
  Block& body_;
  OpBuilder builder_;
  SmallVector<Operation*> deferred_; // in program order
  SmallVector<Value> deferredValues_;
  std::vector<std::string> names_;
};

struct SplitWeightGradientsPass
    : impl::SplitWeightGradientsBase<SplitWeightGradientsPass> {
  void runOnOperation() override {
    if (Options::read(getOperation()).schedule != "zero-bubble")
      return;
    SmallVector<func::FuncOp> funcs(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp func : funcs)
      if (entryOf(func) == "backward")
        WeightGradientSplitter(func).run();
  }
};

} // namespace
} // namespace llmc
