// SPDX-License-Identifier: Apache-2.0
// Verifiers of the ops of TrainingOps.td. Each message names the label of its constraint.
#include "dialects/llm/Llm.h"

using namespace mlir;

namespace llmc::llm {
namespace {

int64_t dimOf(Value v, int64_t i) {
  return cast<ShapedType>(v.getType()).getDimSize(i);
}

int64_t rankOf(Value v) { return cast<ShapedType>(v.getType()).getRank(); }

int64_t widthOf(Value v) {
  return cast<ShapedType>(v.getType()).getShape().back();
}

LogicalResult requireRanks(Operation* op, ArrayRef<std::pair<Value, int64_t>> values) {
  for (auto [value, rank] : values)
    if (rankOf(value) != rank)
      return op->emitOpError("(C1) expects a value of rank ")
             << rank << ", got " << value.getType();
  return success();
}

LogicalResult requireEqual(Operation* op, StringRef what, int64_t a,
                           int64_t b) {
  if (a == b)
    return success();
  return op->emitOpError("(C1) expects equal ")
         << what << ", got " << a << " and " << b;
}

/// The state that `symbol` names; an error at `op` if there is none.
FailureOr<StateOp> lookUpState(Operation* op, FlatSymbolRefAttr symbol,
                               SymbolTableCollection& table) {
  auto state = table.lookupNearestSymbolFrom<StateOp>(op, symbol);
  if (state)
    return state;
  op->emitOpError("(C1) expects a state, got ") << symbol;
  return failure();
}

} // namespace

LogicalResult StateOp::verify() {
  auto type = dyn_cast<RankedTensorType>(getType());
  if (!type || !type.hasStaticShape())
    return emitOpError("(C1) expects a static tensor, got ") << getType();
  if ((getRole() == StateRole::scalar) != !getParamAttr())
    return emitOpError("(C2) expects a parameter for every role but scalar");
  return success();
}

LogicalResult
ReadStateOp::verifySymbolUses(SymbolTableCollection& table) {
  auto state = lookUpState(*this, getStateAttr(), table);
  if (failed(state))
    return failure();
  if (state->getType() != getResult().getType())
    return emitOpError("(C1) expects the type of ")
           << getStateAttr() << ", " << state->getType() << ", got "
           << getResult().getType();
  return success();
}

LogicalResult
AccumulateOp::verifySymbolUses(SymbolTableCollection& table) {
  auto state = lookUpState(*this, getStateAttr(), table);
  if (failed(state))
    return failure();
  if (state->getType() != getX().getType())
    return emitOpError("(C1) expects the type of ")
           << getStateAttr() << ", " << state->getType() << ", got "
           << getX().getType();
  return success();
}

LogicalResult
ZeroStateOp::verifySymbolUses(SymbolTableCollection& table) {
  return success(succeeded(lookUpState(*this, getStateAttr(), table)));
}

LogicalResult LinearInputGradientOp::verify() {
  if (failed(requireRanks(
          *this, {{getDy(), 2}, {getWeight(), 2}, {getResult(), 2}})) ||
      failed(requireEqual(*this, "inner widths", widthOf(getDy()),
                          dimOf(getWeight(), 0))) ||
      failed(requireEqual(*this, "rows", dimOf(getDy(), 0),
                          dimOf(getResult(), 0))))
    return failure();
  return requireEqual(*this, "outer widths", widthOf(getWeight()),
                      widthOf(getResult()));
}

LogicalResult LinearWeightGradientOp::verify() {
  if (failed(requireRanks(*this,
                          {{getDy(), 2}, {getX(), 2}, {getResult(), 2}})) ||
      failed(requireEqual(*this, "rows", dimOf(getDy(), 0),
                          dimOf(getX(), 0))) ||
      failed(requireEqual(*this, "outputs", widthOf(getDy()),
                          dimOf(getResult(), 0))))
    return failure();
  return requireEqual(*this, "inputs", widthOf(getX()), widthOf(getResult()));
}

LogicalResult SumRowsOp::verify() {
  if (failed(requireRanks(*this, {{getX(), 2}, {getResult(), 1}})))
    return failure();
  if (widthOf(getResult()) < 1 || widthOf(getX()) % widthOf(getResult()) != 0)
    return emitOpError("(C1) expects rows of whole widths of the result, got ")
           << widthOf(getX()) << " and " << widthOf(getResult());
  return success();
}

LogicalResult EmbeddingGradientOp::verify() {
  if (failed(requireRanks(*this,
                          {{getIds(), 2}, {getDy(), 2}, {getResult(), 2}})))
    return failure();
  return requireEqual(*this, "widths", widthOf(getDy()), widthOf(getResult()));
}

LogicalResult RowAttentionOp::verify() {
  if (failed(requireRanks(
          *this, {{getQ(), 2}, {getK(), 2}, {getLogSum(), 2}})))
    return failure();
  int64_t headDim = getHeadDim();
  for (Value v : {getQ(), getK()})
    if (headDim < 1 || widthOf(v) % headDim != 0)
      return emitOpError("(C1) expects whole heads of width ")
             << headDim << ", got width " << widthOf(v);
  return requireEqual(*this, "heads", widthOf(getQ()) / headDim,
                      widthOf(getLogSum()));
}

LogicalResult CrossEntropyStatisticsOp::verify() {
  if (failed(requireRanks(*this, {{getLogits(), 2}, {getResult(), 3}})) ||
      failed(requireEqual(*this, "rows", dimOf(getLogits(), 0),
                          dimOf(getResult(), 1))))
    return failure();
  return requireEqual(*this, "triples", 3, widthOf(getResult()));
}

LogicalResult CrossEntropyLossOp::verify() {
  if (failed(requireRanks(*this, {{getStatistics(), 3}, {getLoss(), 1}})))
    return failure();
  return requireEqual(*this, "rows", dimOf(getStatistics(), 1),
                      dimOf(getLoss(), 0));
}

LogicalResult
SquareSumOp::verifySymbolUses(SymbolTableCollection& table) {
  auto state = lookUpState(*this, getStateAttr(), table);
  if (failed(state))
    return failure();
  auto type = cast<RankedTensorType>(state->getType());
  int64_t index = getIndex();
  if (!type.getElementType().isF64() || index < 0 ||
      index >= type.getNumElements())
    return emitOpError("(C1) expects an f64 state with more than ")
           << index << " elements, got " << type;
  return success();
}

LogicalResult AdamwOp::verifySymbolUses(SymbolTableCollection& table) {
  if (!table.lookupNearestSymbolFrom<ParamOp>(*this, getParamAttr()))
    return emitOpError("(C1) expects a parameter, got ") << getParamAttr();
  auto size = cast<ShapedType>(getGradient().getType()).getNumElements();
  SmallVector<FlatSymbolRefAttr> symbols = {getMoment1Attr(), getMoment2Attr()};
  if (getMasterAttr())
    symbols.push_back(getMasterAttr());
  for (FlatSymbolRefAttr symbol : symbols) {
    auto state = lookUpState(*this, symbol, table);
    if (failed(state))
      return failure();
    if (cast<ShapedType>(state->getType()).getNumElements() != size)
      return emitOpError("(C1) expects ")
             << size << " elements in " << symbol << ", got "
             << state->getType();
  }
  return success();
}

} // namespace llmc::llm
