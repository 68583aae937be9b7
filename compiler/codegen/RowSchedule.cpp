// SPDX-License-Identifier: Apache-2.0
#include "compiler/codegen/RowSchedule.h"

#include "compiler/codegen/MathExpansion.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

linalg::GenericOp genericOf(Value v) {
  return sourceOf(v).getDefiningOp<linalg::GenericOp>();
}

} // namespace

Value sourceOf(Value v) {
  while (Operation* op = v.getDefiningOp()) {
    if (!isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(op))
      break;
    v = op->getOperand(0);
  }
  return v;
}

int64_t lastDim(Value v) {
  return cast<RankedTensorType>(v.getType()).getShape().back();
}

bool RowSchedule::isScalar(Value tensor) const {
  linalg::GenericOp producer = genericOf(tensor);
  return producer && kinds.lookup(producer) != RowKind::Elements;
}

SmallVector<linalg::GenericOp> RowSchedule::sumsOfWalk(int walk) const {
  return llvm::filter_to_vector(generics, [&](linalg::GenericOp op) {
    return kinds.lookup(op) == RowKind::Sum && walks.lookup(op) == walk + 1;
  });
}

SmallVector<linalg::GenericOp> RowSchedule::scalarsAfterWalk(int walk) const {
  return llvm::filter_to_vector(generics, [&](linalg::GenericOp op) {
    return kinds.lookup(op) == RowKind::Scalar && walks.lookup(op) == walk + 1;
  });
}

FailureOr<RowSchedule> makeRowSchedule(func::FuncOp form, bool isElementwise) {
  RowSchedule s;
  s.width = cast<RankedTensorType>(form.getResultTypes()[0]).getDimSize(1);
  for (auto op : form.getOps<linalg::GenericOp>()) {
    int walk = 0;
    bool isOfScalars = true;
    for (Value input : op.getInputs()) {
      if (linalg::GenericOp producer = genericOf(input))
        walk = std::max(walk, s.walks.lookup(producer));
      isOfScalars &= s.isScalar(input);
    }
    RowKind kind = isOfScalars ? RowKind::Scalar : RowKind::Elements;
    if (op.getNumReductionLoops() > 0) {
      kind = RowKind::Sum;
      ++walk;
      int64_t summed = lastDim(op.getInputs()[0]);
      if (s.unitWidth != 0 && s.unitWidth != summed)
        return form.emitError("LLMC-E1003: one kernel cannot hold norms of "
                              "different widths, got ")
               << s.unitWidth << " and " << summed;
      s.unitWidth = summed;
    }
    s.generics.push_back(op);
    s.kinds[op] = kind;
    s.walks[op] = walk;
    s.numWalks = std::max(s.numWalks, walk);
  }
  if (s.unitWidth == 0)
    s.unitWidth = s.width;
  if (isElementwise && s.numWalks > 0)
    return form.emitError(
        "LLMC-E1003: an elementwise kernel cannot hold a norm");
  return s;
}

Value evaluateBody(ImplicitLocOpBuilder& b, linalg::GenericOp op,
                   ArrayRef<Value> inputs) {
  Block& body = op.getRegion().front();
  auto resultType = [&](Type scalar) -> Type {
    if (auto vector = dyn_cast<VectorType>(inputs[0].getType()))
      return vector.clone(scalar);
    return scalar;
  };
  IRMapping map;
  map.map(body.getArguments(), inputs);
  for (Operation& scalar : body.without_terminator()) {
    auto operand = [&] { return map.lookup(scalar.getOperand(0)); };
    Value result =
        llvm::TypeSwitch<Operation*, Value>(&scalar)
            .Case([&](arith::ExtFOp) { return operand(); })
            .Case([&](arith::TruncFOp) {
              return expandRoundToBf16(b, operand());
            })
            .Case([&](math::ExpOp) { return expandExp(b, operand()); })
            .Case([&](math::TanhOp) { return expandTanh(b, operand()); })
            .Case([&](math::ErfOp) { return expandErf(b, operand()); })
            .Case([&](arith::ConstantOp constant) -> Value {
              Type type = resultType(constant.getType());
              auto vector = dyn_cast<VectorType>(type);
              return arith::ConstantOp::create(
                  b, vector ? TypedAttr(DenseElementsAttr::get(
                                  vector, Attribute(constant.getValue())))
                            : constant.getValue());
            })
            .Default([&](Operation* other) {
              Operation* copy = b.clone(*other, map);
              copy->getResult(0).setType(
                  resultType(copy->getResult(0).getType()));
              return copy->getResult(0);
            });
    map.map(scalar.getResult(0), result);
  }
  return map.lookup(body.getTerminator()->getOperand(0));
}

Value addLanes(ImplicitLocOpBuilder& b, Value lanes) {
  int64_t numLanes = cast<VectorType>(lanes.getType()).getDimSize(0);
  for (int64_t half = numLanes / 2; half > 0; half /= 2) {
    auto low = llvm::to_vector(llvm::seq<int64_t>(0, half));
    auto high = llvm::to_vector(llvm::seq<int64_t>(half, 2 * half));
    lanes = arith::AddFOp::create(
        b, vector::ShuffleOp::create(b, lanes, lanes, low),
        vector::ShuffleOp::create(b, lanes, lanes, high));
  }
  return vector::ExtractOp::create(b, lanes, 0);
}

} // namespace llmc
