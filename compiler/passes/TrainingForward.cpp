// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/TrainingForward.h"

using namespace mlir;

namespace llmc {

FailureOr<TrainingForward::Logits>
TrainingForward::write(OpBuilder& builder, Value ids, Value positions,
                       Value starts, bool hasReference) {
  builder_ = &builder;
  SmallVector<Copy, 2> copies(hasReference ? 2 : 1);
  for (auto [i, copy] : llvm::enumerate(copies)) {
    // The reference first: what it gives is needed to weigh the model's rows.
    copy.isReference = i + 1 < copies.size();
    copy.mapping.map(forward_.getArgument(0), ids);
    copy.mapping.map(forward_.getArgument(1), positions);
  }
  if (failed(cloneBody(forward_, copies, starts)))
    return failure();
  Logits logits;
  logits.model = copies.back().results.front();
  if (hasReference)
    logits.reference = copies.front().results.front();
  return logits;
}

/// ids and positions become [S, R], activations [S*R, C].
Type TrainingForward::staticType(Type type) const {
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

LogicalResult TrainingForward::cloneBody(func::FuncOp func,
                                         MutableArrayRef<Copy> copies,
                                         Value starts) {
  for (Operation& op : func.getBody().front())
    for (Copy& copy : copies)
      if (failed(cloneOp(op, copy, starts)))
        return failure();
  return success();
}

LogicalResult TrainingForward::cloneOp(Operation& op, Copy& copy,
                                       Value starts) {
  IRMapping& mapping = copy.mapping;
  if (auto ret = dyn_cast<func::ReturnOp>(op)) {
    for (Value v : ret.getOperands())
      copy.results.push_back(mapping.lookup(v));
    return success();
  }
  if (auto attention = dyn_cast<llm::AttentionOp>(op)) {
    cloneAttention(attention, mapping, starts);
    return success();
  }
  if (auto output = dyn_cast<llm::OutputRowsOp>(op)) {
    mapping.map(output.getResult(), mapping.lookup(output.getX()));
    return success();
  }
  if (auto get = dyn_cast<llm::GetParamOp>(op)) {
    cloneParameter(get, copy);
    return success();
  }
  if (auto call = dyn_cast<func::CallOp>(op))
    return cloneCall(call, copy, starts);
  Operation* clone = builder_->clone(op, mapping);
  for (OpResult result : clone->getResults())
    result.setType(staticType(result.getType()));
  return success();
}

void TrainingForward::cloneParameter(llm::GetParamOp op, Copy& copy) {
  std::string name =
      ((copy.isReference ? kReferencePrefix : "") + op.getParam()).str();
  auto param = symbols_.lookup<llm::ParamOp>(name);
  auto get = llm::GetParamOp::create(*builder_, op.getLoc(),
                                     cast<RankedTensorType>(param.getType()),
                                     param.getSymName());
  copy.mapping.map(op.getResult(), get.getResult());
}

void TrainingForward::cloneAttention(llm::AttentionOp op, IRMapping& mapping,
                                     Value starts) {
  int64_t heads = op.getNumHeads();
  Value q = mapping.lookup(op.getQ());
  auto logSum =
      RankedTensorType::get({shape_.rows(), heads}, builder_->getF32Type());
  auto attention = llm::RowAttentionOp::create(
      *builder_, op.getLoc(), TypeRange{q.getType(), logSum}, q,
      mapping.lookup(op.getK()), mapping.lookup(op.getV()), starts,
      op.getHeadDimAttr(),
      builder_->getI64IntegerAttr(heads / op.getNumKvHeads()),
      op.getScaleAttr(), op.getWindowAttr(), op.getSoftcapAttr(),
      TypeAttr::get(dtype_), Attribute());
  mapping.map(op.getResult(), attention.getResult());
}

LogicalResult TrainingForward::cloneCall(func::CallOp call, Copy& copy,
                                         Value starts) {
  auto callee = symbols_.lookup<func::FuncOp>(call.getCallee());
  if (!callee || callee.isDeclaration())
    return call.emitOpError("expects a block function with a body, got @")
           << call.getCallee();
  SmallVector<Value> operands;
  for (Value v : call.getOperands())
    operands.push_back(copy.mapping.lookup(v));
  operands.push_back(starts);
  func::FuncOp target;
  if (copy.isReference) {
    func::FuncOp& block = referenceBlocks_[callee];
    if (!block) {
      auto made = specialise(callee, operands, ".reference");
      if (failed(made))
        return failure();
      block = *made;
    }
    target = block;
  } else {
    DifferentiatedBlock*& block = blocks_[callee];
    if (!block) {
      auto made = specialise(callee, operands, ".forward");
      if (failed(made))
        return failure();
      std::vector<bool> wanted = wantedArguments(callee);
      auto split = differentiation_.splitBlock(
          *made, [&](unsigned i) { return i < wanted.size() && wanted[i]; });
      if (failed(split))
        return failure();
      block = *split;
    }
    target = block->forward;
  }
  auto result =
      func::CallOp::create(*builder_, call.getLoc(), target, operands);
  if (copy.isReference)
    result->setAttr(kReferenceAttr, builder_->getUnitAttr());
  for (auto [old, value] : llvm::zip(call.getResults(), result.getResults()))
    copy.mapping.map(old, value);
  return success();
}

/// Clones a block function for static rows, with one argument more (starts).
FailureOr<func::FuncOp> TrainingForward::specialise(func::FuncOp callee,
                                                    ValueRange operands,
                                                    StringRef suffix) {
  OpBuilder::InsertionGuard guard(*builder_);
  builder_->setInsertionPoint(forward_);
  auto copy = func::FuncOp::create(*builder_, callee.getLoc(),
                                   (callee.getName() + suffix).str(),
                                   builder_->getFunctionType({}, {}));
  copy.setPrivate();
  copy->setAttr(llm::LlmDialect::kBlockAttr, builder_->getUnitAttr());
  Block* body = new Block();
  copy.getBody().push_back(body);
  Copy inside;
  for (auto [arg, value] : llvm::zip(callee.getArguments(), operands))
    inside.mapping.map(arg, body->addArgument(value.getType(), arg.getLoc()));
  Value starts =
      body->addArgument(operands.back().getType(),
                        NameLoc::get(builder_->getStringAttr("starts")));
  builder_->setInsertionPointToStart(body);
  if (failed(cloneBody(callee, inside, starts)))
    return failure();
  func::ReturnOp::create(*builder_, callee.getLoc(), inside.results);
  copy.setFunctionType(builder_->getFunctionType(
      body->getArgumentTypes(),
      SmallVector<Type>(ValueRange(inside.results).getTypes())));
  symbols_.insert(copy);
  return copy;
}

/// Arguments that some call gives something trained, or no parameter at all.
std::vector<bool> TrainingForward::wantedArguments(func::FuncOp callee) {
  std::vector<bool> wanted(callee.getNumArguments(), false);
  forward_.walk([&](func::CallOp call) {
    if (call.getCallee() != callee.getName())
      return;
    for (auto [i, v] : llvm::enumerate(call.getOperands())) {
      auto get = v.getDefiningOp<llm::GetParamOp>();
      wanted[i] = wanted[i] || !get || isTrained_(get.getParam());
    }
  });
  return wanted;
}

} // namespace llmc
