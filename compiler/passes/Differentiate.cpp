// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/Differentiate.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace llmc {
namespace {

bool isFloatTensor(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa<FloatType>(tensor.getElementType());
}

/// Values of the block that depend on a wanted one.
DenseSet<Value> dependents(Block& block,
                           llvm::function_ref<bool(Value)> isWanted) {
  DenseSet<Value> result;
  for (BlockArgument arg : block.getArguments())
    if (isWanted(arg))
      result.insert(arg);
  for (Operation& op : block) {
    bool isSource = isa<llm::GetParamOp>(op) && isWanted(op.getResult(0));
    bool depends = llvm::any_of(op.getOperands(),
                                [&](Value v) { return result.contains(v); });
    if (!isSource && !depends)
      continue;
    for (Value v : op.getResults())
      if (isFloatTensor(v.getType()))
        result.insert(v);
  }
  return result;
}

} // namespace

LogicalResult
Differentiation::visitCall(func::CallOp call, OpBuilder& builder,
                           llvm::function_ref<Value(Value)> gradientOf,
                           llvm::function_ref<void(Value, Value)> add) {
  DifferentiatedBlock* block = find(call.getCallee());
  if (!block)
    return call.emitOpError("calls a function without a gradient");
  SmallVector<Value> operands;
  for (unsigned i = 0; i < block->numResults; ++i) {
    Value gradient = gradientOf(call.getResult(i));
    if (!gradient)
      return call.emitOpError("expects every result to reach the loss");
    operands.push_back(gradient);
  }
  llvm::append_range(operands, call.getOperands());
  llvm::append_range(operands, call.getResults().drop_front(block->numResults));
  auto copy =
      func::CallOp::create(builder, call.getLoc(), block->backward, operands);
  for (auto [i, arg] : llvm::enumerate(block->gradientOf))
    add(call.getOperand(arg), copy.getResult(i));
  return success();
}

LogicalResult Differentiation::differentiate(
    Block& forward, OpBuilder& builder, DenseMap<Value, Value> seeds,
    llvm::function_ref<bool(Value)> isWanted,
    llvm::function_ref<void(llm::GetParamOp, Value)> onParameter,
    DenseMap<Value, Value>& gradients) {
  gradients = std::move(seeds);
  DenseSet<Value> active = dependents(forward, isWanted);
  Location loc = builder.getUnknownLoc();
  auto add = [&](Value value, Value gradient) {
    if (!gradient || !active.contains(value))
      return;
    // Each use of a parameter is added to its gradient where it arises: a tied
    // weight needs no sum of two matrices.
    if (auto get = value.getDefiningOp<llm::GetParamOp>()) {
      onParameter(get, gradient);
      return;
    }
    Value& sum = gradients[value];
    sum = sum ? llm::AddOp::create(builder, loc, sum, gradient).getResult()
              : gradient;
  };
  for (Operation& op : llvm::reverse(forward)) {
    loc = op.getLoc();
    bool isReached = llvm::any_of(op.getResults(), [&](Value v) {
      return bool(gradients.lookup(v)) && active.contains(v);
    });
    if (!isReached)
      continue;
    if (auto call = dyn_cast<func::CallOp>(op)) {
      if (failed(visitCall(
              call, builder, [&](Value v) { return gradients.lookup(v); },
              add)))
        return failure();
      continue;
    }
    auto differentiable = dyn_cast<llm::DifferentiableOpInterface>(op);
    if (!differentiable)
      return op.emitOpError("has no gradient: it cannot be trained through");
    llm::GradientRequest request{builder, {}, {}, {}};
    for (Value v : op.getResults())
      request.resultGradients.push_back(gradients.lookup(v));
    for (Value v : op.getOperands())
      request.isNeeded.push_back(active.contains(v));
    request.operandGradients.resize(op.getNumOperands());
    differentiable.buildGradients(request);
    for (auto [value, gradient] :
         llvm::zip(op.getOperands(), request.operandGradients))
      add(value, gradient);
  }
  return success();
}

SmallVector<Value> Differentiation::saveValues(Block& forward, Block& backward,
                                               IRMapping& mapping) {
  llvm::SetVector<Value> needed;
  for (Operation& op : backward)
    for (Value v : op.getOperands())
      if (v.getParentBlock() == &forward)
        needed.insert(v);
  SmallVector<Value> saved;
  OpBuilder builder = OpBuilder::atBlockBegin(&backward);
  for (Value v : needed) {
    if (mapping.contains(v))
      continue;
    if (isa_and_nonnull<llm::GetParamOp, llm::ReadStateOp>(v.getDefiningOp())) {
      builder.clone(*v.getDefiningOp(), mapping);
      continue;
    }
    saved.push_back(v);
    mapping.map(v, backward.addArgument(v.getType(), v.getLoc()));
  }
  for (Operation& op : backward)
    for (OpOperand& use : op.getOpOperands())
      if (use.get().getParentBlock() == &forward)
        use.set(mapping.lookup(use.get()));
  return saved;
}

FailureOr<DifferentiatedBlock*>
Differentiation::splitBlock(func::FuncOp block,
                            llvm::function_ref<bool(unsigned)> isWanted) {
  Block& forward = block.getBody().front();
  Operation* ret = forward.getTerminator();
  OpBuilder builder(block->getContext());
  builder.setInsertionPointAfter(block);
  std::string name = block.getName().str();
  auto backward =
      func::FuncOp::create(builder, block.getLoc(), name + ".backward",
                           builder.getFunctionType({}, {}));
  backward.setPrivate();
  backward->setAttr(llm::LlmDialect::kBlockAttr, builder.getUnitAttr());
  Block* body = new Block();
  backward.getBody().push_back(body);
  DenseMap<Value, Value> seeds, gradients;
  for (Value v : ret->getOperands())
    seeds[v] = body->addArgument(v.getType(), v.getLoc());
  IRMapping mapping;
  for (BlockArgument arg : forward.getArguments())
    mapping.map(arg, body->addArgument(arg.getType(), arg.getLoc()));
  builder.setInsertionPointToEnd(body);
  auto wanted = [&](Value v) {
    auto arg = dyn_cast<BlockArgument>(v);
    return arg && isFloatTensor(arg.getType()) && isWanted(arg.getArgNumber());
  };
  if (failed(differentiate(
          forward, builder, std::move(seeds), wanted,
          [](llm::GetParamOp, Value) {}, gradients)))
    return failure();
  DifferentiatedBlock result{block, backward, ret->getNumOperands(), {}};
  SmallVector<Value> returned;
  for (BlockArgument arg : forward.getArguments())
    if (Value gradient = gradients.lookup(arg); gradient && wanted(arg)) {
      result.gradientOf.push_back(arg.getArgNumber());
      returned.push_back(gradient);
    }
  func::ReturnOp::create(builder, block.getLoc(), returned);
  SmallVector<Value> saved = saveValues(forward, *body, mapping);
  backward.setFunctionType(builder.getFunctionType(
      body->getArgumentTypes(),
      SmallVector<Type>(body->getTerminator()->getOperandTypes())));
  ret->insertOperands(ret->getNumOperands(), saved);
  block.setFunctionType(builder.getFunctionType(
      forward.getArgumentTypes(), SmallVector<Type>(ret->getOperandTypes())));
  backward->setAttr(kBackwardOfAttr,
                    FlatSymbolRefAttr::get(block.getNameAttr()));
  backward->setAttr(kNumSavedAttr, builder.getI64IntegerAttr(saved.size()));
  symbols_.insert(backward);
  return &(blocks_[name] = result);
}

} // namespace llmc
