// SPDX-License-Identifier: Apache-2.0
// Private to code generation: the tensors of one kernel while its row ops
// become linalg. Shared by the ops of a model (LowerKernelToLinalg.cpp) and
// their gradients (LowerGradientsToLinalg.cpp).
#pragma once

#include "dialects/llm/Llm.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace llmc {

using namespace mlir; // every name below is MLIR's

using ScalarBody =
    llvm::function_ref<Value(ImplicitLocOpBuilder&, ArrayRef<Value>)>;

inline Value constantF32(ImplicitLocOpBuilder& b, double value) {
  return arith::ConstantOp::create(
      b, b.getF32FloatAttr(static_cast<float>(value)));
}

/// The tensors of one kernel while it is lowered.
struct Lowering {
  ImplicitLocOpBuilder b;
  IRMapping values;
  Value rows; // number of rows, an index

  explicit Lowering(ImplicitLocOpBuilder builder) : b(builder) {}

  RankedTensorType typeOf(Value v) {
    return cast<RankedTensorType>(v.getType());
  }

  Value empty(RankedTensorType type) {
    return tensor::EmptyOp::create(
        b, type, type.isDynamicDim(0) ? ValueRange(rows) : ValueRange());
  }

  /// The map from the loops of a result of rank `numLoops` to an operand: a
  /// full tensor takes all loops, a vector the last one, row scalars all but
  /// the last.
  AffineMap operandMap(Value operand, unsigned numLoops) {
    RankedTensorType type = typeOf(operand);
    if (type.getRank() == numLoops)
      return b.getMultiDimIdentityMap(numLoops);
    bool isVector = !type.isDynamicDim(0);
    SmallVector<AffineExpr> dims;
    if (isVector)
      dims.push_back(b.getAffineDimExpr(numLoops - 1));
    else
      for (unsigned i = 0; i + 1 < numLoops; ++i)
        dims.push_back(b.getAffineDimExpr(i));
    return AffineMap::get(numLoops, 0, dims, b.getContext());
  }

  /// One generic: reads every operand as f32, and rounds to the result's type.
  Value generic(ValueRange operands, Value init, AffineMap resultMap,
                ArrayRef<utils::IteratorType> loops, ScalarBody body) {
    SmallVector<AffineMap> maps;
    for (Value operand : operands)
      maps.push_back(operandMap(operand, loops.size()));
    maps.push_back(resultMap);
    auto op = linalg::GenericOp::create(
        b, TypeRange(init.getType()), operands, ValueRange(init), maps, loops,
        [&](OpBuilder& inner, Location loc, ValueRange args) {
          ImplicitLocOpBuilder ib(loc, inner);
          SmallVector<Value> reals;
          for (Value arg : args)
            reals.push_back(
                arg.getType().isF32()
                    ? arg
                    : arith::ExtFOp::create(ib, ib.getF32Type(), arg)
                          .getResult());
          Value result = body(ib, reals);
          Type element = typeOf(init).getElementType();
          if (!element.isF32())
            result = arith::TruncFOp::create(ib, element, result);
          linalg::YieldOp::create(ib, result);
        });
    return op.getResult(0);
  }

  /// result[r, .., c] = body(operands at r, .., c)
  Value elementwise(ValueRange operands, RankedTensorType type,
                    ScalarBody body) {
    SmallVector<utils::IteratorType> loops(type.getRank(),
                                           utils::IteratorType::parallel);
    return generic(operands, empty(type),
                   b.getMultiDimIdentityMap(type.getRank()), loops, body);
  }

  /// sums[r, ..] = sum over c of body(operands at r, .., c), in f32
  Value sumOfRow(ValueRange operands, ScalarBody body) {
    RankedTensorType full = typeOf(operands[0]);
    auto type =
        RankedTensorType::get(full.getShape().drop_back(), b.getF32Type());
    Value init =
        linalg::FillOp::create(b, constantF32(b, 0), empty(type)).getResult(0);
    SmallVector<utils::IteratorType> loops(full.getRank(),
                                           utils::IteratorType::parallel);
    loops.back() = utils::IteratorType::reduction;
    return generic(
        operands, init, operandMap(init, full.getRank()), loops,
        [&](ImplicitLocOpBuilder& ib, ArrayRef<Value> args) {
          Value term = body(ib, args.drop_back());
          return arith::AddFOp::create(ib, args.back(), term).getResult();
        });
  }

  /// x [rows, C] as [rows, C / width, width], unless width is C.
  Value expandHeads(Value x, int64_t width) {
    RankedTensorType type = typeOf(x);
    int64_t heads = type.getDimSize(1) / width;
    if (heads == 1)
      return x;
    auto expanded = RankedTensorType::get({type.getDimSize(0), heads, width},
                                          type.getElementType());
    SmallVector<OpFoldResult> shape = {rows, b.getIndexAttr(heads),
                                       b.getIndexAttr(width)};
    return tensor::ExpandShapeOp::create(
        b, expanded, x, ArrayRef<ReassociationIndices>{{0}, {1, 2}}, shape);
  }

  Value collapseHeads(Value x, RankedTensorType type) {
    if (x.getType() == type)
      return x;
    return tensor::CollapseShapeOp::create(
        b, type, x, ArrayRef<ReassociationIndices>{{0}, {1, 2}});
  }

  /// 1 / sqrt(sums / width + eps)
  Value reciprocalRoot(Value sums, int64_t width, double eps) {
    return elementwise(
        sums, typeOf(sums), [&](ImplicitLocOpBuilder& ib, ArrayRef<Value> v) {
          Value mean = arith::DivFOp::create(ib, v[0], constantF32(ib, width));
          Value shifted = arith::AddFOp::create(ib, mean, constantF32(ib, eps));
          Value root = math::SqrtOp::create(ib, shifted);
          return arith::DivFOp::create(ib, constantF32(ib, 1), root)
              .getResult();
        });
  }
};

/// activation(x).
Value activate(ImplicitLocOpBuilder& b, llm::ActivationKind kind, Value x);

/// Lowers a gradient op of rows to values for its results; empty for any other
/// op.
SmallVector<Value> lowerGradient(Lowering& l, Operation* op, ValueRange in);

} // namespace llmc
