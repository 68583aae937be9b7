// SPDX-License-Identifier: Apache-2.0
// Verifiers of the ops of TrainingOps.td. Each message names the label of its
// constraint.
#include "dialects/llm/Llm.h"

using namespace mlir;

namespace llmc::llm {
namespace {

// Widths that docs/design/training.md and `global_norm` fix.
constexpr int64_t kHyperparameters = 16;
constexpr int64_t kNormResults = 4;
constexpr int64_t kPreferenceTerms = 6;

int64_t dimOf(Value v, int64_t i) {
  return cast<ShapedType>(v.getType()).getDimSize(i);
}

int64_t rankOf(Value v) { return cast<ShapedType>(v.getType()).getRank(); }

int64_t widthOf(Value v) {
  return cast<ShapedType>(v.getType()).getShape().back();
}

LogicalResult requireRanks(Operation* op,
                           ArrayRef<std::pair<Value, int64_t>> values) {
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

/// Rows of `v` are those of `ids` `[S, R]`.
LogicalResult requireRowsOf(Operation* op, Value v, Value ids) {
  auto type = cast<ShapedType>(ids.getType());
  if (type.getRank() != 2)
    return op->emitOpError("(C1) expects a value of rank 2, got ") << type;
  if (!type.hasStaticShape())
    return success();
  return requireEqual(op, "rows", dimOf(v, 0), type.getNumElements());
}

/// `v` is a vector of `width` elements.
LogicalResult requireVector(Operation* op, StringRef label, Value v,
                            int64_t width) {
  auto type = cast<ShapedType>(v.getType());
  if (type.getRank() == 1 && type.getDimSize(0) == width)
    return success();
  return op->emitOpError() << "(" << label << ") expects a vector of width "
                           << width << ", got " << type;
}

/// Shapes that `row_attention` and its gradient have in common.
template <typename Op>
LogicalResult requireHeads(Op op) {
  if (failed(requireRanks(
          op, {{op.getQ(), 2}, {op.getK(), 2}, {op.getLogSum(), 2}})))
    return failure();
  int64_t headDim = op.getHeadDim();
  for (Value v : {op.getQ(), op.getK()}) {
    if (headDim < 1 || widthOf(v) < headDim || widthOf(v) % headDim != 0)
      return op.emitOpError("(C1) expects whole heads of width ")
             << headDim << ", got width " << widthOf(v);
    if (failed(requireRowsOf(op, v, op.getStarts())))
      return failure();
  }
  if (op.getGroup() < 1)
    return op.emitOpError("(C1) expects a group of at least one head, got ")
           << op.getGroup();
  if (failed(requireRowsOf(op, op.getLogSum(), op.getStarts())))
    return failure();
  return requireEqual(op, "heads", widthOf(op.getQ()) / headDim,
                      widthOf(op.getLogSum()));
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

LogicalResult StateOp::verifySymbolUses(SymbolTableCollection& table) {
  if (!getParamAttr() ||
      table.lookupNearestSymbolFrom<ParamOp>(*this, getParamAttr()))
    return success();
  return emitOpError("(C3) expects a parameter, got ") << getParamAttr();
}

LogicalResult ReadStateOp::verifySymbolUses(SymbolTableCollection& table) {
  auto state = lookUpState(*this, getStateAttr(), table);
  if (failed(state))
    return failure();
  if (state->getType() != getResult().getType())
    return emitOpError("(C1) expects the type of ")
           << getStateAttr() << ", " << state->getType() << ", got "
           << getResult().getType();
  return success();
}

LogicalResult AccumulateOp::verifySymbolUses(SymbolTableCollection& table) {
  auto state = lookUpState(*this, getStateAttr(), table);
  if (failed(state))
    return failure();
  if (state->getType() != getX().getType())
    return emitOpError("(C1) expects the type of ")
           << getStateAttr() << ", " << state->getType() << ", got "
           << getX().getType();
  return success();
}

LogicalResult ZeroStateOp::verifySymbolUses(SymbolTableCollection& table) {
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
  if (failed(
          requireRanks(*this, {{getDy(), 2}, {getX(), 2}, {getResult(), 2}})) ||
      failed(
          requireEqual(*this, "rows", dimOf(getDy(), 0), dimOf(getX(), 0))) ||
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
  if (failed(
          requireRanks(*this, {{getIds(), 2}, {getDy(), 2}, {getResult(), 2}})))
    return failure();
  if (failed(requireRowsOf(*this, getDy(), getIds())))
    return failure();
  return requireEqual(*this, "widths", widthOf(getDy()), widthOf(getResult()));
}

LogicalResult RmsNormGradientOp::verify() {
  if (failed(requireRanks(*this, {{getX(), 2}, {getWeight(), 1}})))
    return failure();
  if (widthOf(getWeight()) < 1 || widthOf(getX()) % widthOf(getWeight()) != 0)
    return emitOpError("(C1) expects rows of whole widths of the weight, got ")
           << widthOf(getX()) << " and " << widthOf(getWeight());
  return success();
}

LogicalResult LayerNormGradientOp::verify() {
  if (failed(requireRanks(*this, {{getX(), 2}, {getWeight(), 1}})))
    return failure();
  return requireEqual(*this, "widths", widthOf(getX()), widthOf(getWeight()));
}

LogicalResult RowAttentionOp::verify() { return requireHeads(*this); }

LogicalResult RowAttentionGradientOp::verify() { return requireHeads(*this); }

LogicalResult CrossEntropyStatisticsOp::verify() {
  if (failed(requireRanks(*this, {{getLogits(), 2}, {getResult(), 3}})) ||
      failed(requireRowsOf(*this, getLogits(), getLabels())) ||
      failed(requireEqual(*this, "rows", dimOf(getLogits(), 0),
                          dimOf(getResult(), 1))))
    return failure();
  if (dimOf(getResult(), 0) < 1)
    return emitOpError("(C1) expects at least one part, got ")
           << getResult().getType();
  return requireEqual(*this, "triples", 3, widthOf(getResult()));
}

LogicalResult CrossEntropyLossOp::verify() {
  if (failed(requireRanks(*this, {{getStatistics(), 3}})) ||
      failed(requireEqual(*this, "triples", 3, widthOf(getStatistics()))))
    return failure();
  int64_t rows = dimOf(getStatistics(), 1);
  for (Value v : {getLoss(), getLogSum()})
    if (failed(requireVector(*this, "C1", v, rows)))
      return failure();
  return requireRowsOf(*this, getLoss(), getLabels());
}

LogicalResult CrossEntropyGradientOp::verify() {
  if (failed(requireRanks(*this, {{getLogits(), 2}})) ||
      failed(requireRowsOf(*this, getLogits(), getLabels())))
    return failure();
  for (Value v : {getLogSum(), getWeights()})
    if (failed(requireVector(*this, "C1", v, dimOf(getLogits(), 0))))
      return failure();
  return success();
}

LogicalResult CountLabelsOp::verify() {
  int64_t labels = cast<ShapedType>(getLabels().getType()).getNumElements();
  int64_t unit = getUnit();
  if (unit < 1 || labels % unit != 0)
    return emitOpError("(C1) expects whole units of ")
           << unit << " labels, got " << labels;
  return requireVector(*this, "C1", getResult(), 1);
}

LogicalResult TokenWeightsOp::verify() {
  if (failed(requireVector(*this, "C1", getCount(), 1)) ||
      failed(requireRanks(*this, {{getResult(), 1}})))
    return failure();
  return requireRowsOf(*this, getResult(), getLabels());
}

LogicalResult PreferenceLossOp::verify() {
  auto labels = cast<ShapedType>(getLabels().getType());
  if (labels.getRank() != 2 || labels.getDimSize(0) % 2 != 0)
    return emitOpError("(C1) expects pairs of sequences, got ") << labels;
  for (Value v : {getLoss(), getReference(), getWeights()})
    if (failed(requireVector(*this, "C1", v, labels.getNumElements())))
      return failure();
  if (failed(requireVector(*this, "C1", getCount(), 1)) ||
      failed(requireVector(*this, "C1", getHyper(), kHyperparameters)))
    return failure();
  return requireVector(*this, "C1", getTerms(), kPreferenceTerms);
}

LogicalResult WeightedSumOp::verify() {
  if (failed(requireVector(*this, "C1", getResult(), 1)) ||
      failed(requireRanks(*this, {{getX(), 1}})))
    return failure();
  return requireVector(*this, "C1", getWeights(), dimOf(getX(), 0));
}

LogicalResult SumTermsOp::verify() {
  return requireVector(*this, "C1", getResult(), 1);
}

LogicalResult GlobalNormOp::verify() {
  if (failed(requireVector(*this, "C1", getHyper(), kHyperparameters)))
    return failure();
  return requireVector(*this, "C1", getResult(), kNormResults);
}

LogicalResult SquareSumOp::verifySymbolUses(SymbolTableCollection& table) {
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
  if (failed(requireVector(*this, "C2", getNorm(), kNormResults)) ||
      failed(requireVector(*this, "C2", getHyper(), kHyperparameters)))
    return failure();
  auto type = cast<ShapedType>(getGradient().getType());
  if (!type.hasStaticShape())
    return emitOpError("(C1) expects a static gradient, got ") << type;
  int64_t size = type.getNumElements();
  SmallVector<FlatSymbolRefAttr> symbols = {getMoment1Attr(), getMoment2Attr()};
  if (getMasterAttr())
    symbols.push_back(getMasterAttr());
  for (FlatSymbolRefAttr symbol : symbols) {
    auto state = lookUpState(*this, symbol, table);
    if (failed(state))
      return failure();
    if (cast<ShapedType>(state->getType()).getNumElements() != size)
      return emitOpError("(C1) expects ") << size << " elements in " << symbol
                                          << ", got " << state->getType();
  }
  return success();
}

} // namespace llmc::llm
