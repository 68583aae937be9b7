// SPDX-License-Identifier: Apache-2.0
// One short function per row op of the `llm` dialect. The scalar bodies here
// are the definition of what generated kernels compute: targets may reorder a
// sum, nothing else.
#include "compiler/codegen/LowerKernelToLinalg.h"

#include "dialects/llm/Llm.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;

namespace llmc {
namespace {

using ScalarBody =
    llvm::function_ref<Value(ImplicitLocOpBuilder&, ArrayRef<Value>)>;

Value constantF32(ImplicitLocOpBuilder& b, double value) {
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

Value activate(ImplicitLocOpBuilder& b, llm::ActivationKind kind, Value x) {
  auto constant = [&](double v) { return constantF32(b, v); };
  auto add = [&](Value l, Value r) -> Value {
    return arith::AddFOp::create(b, l, r);
  };
  auto mul = [&](Value l, Value r) -> Value {
    return arith::MulFOp::create(b, l, r);
  };
  switch (kind) {
  case llm::ActivationKind::silu: {
    Value grown = math::ExpOp::create(b, arith::NegFOp::create(b, x));
    return arith::DivFOp::create(b, x, add(constant(1), grown));
  }
  case llm::ActivationKind::gelu: {
    Value erf = math::ErfOp::create(b, mul(x, constant(std::sqrt(0.5))));
    return mul(mul(x, constant(0.5)), add(constant(1), erf));
  }
  case llm::ActivationKind::gelu_tanh: {
    Value cube = mul(mul(x, x), x);
    Value inner = mul(constant(std::sqrt(2 / M_PI)),
                      add(x, mul(constant(0.044715), cube)));
    Value tanh = math::TanhOp::create(b, inner);
    return mul(mul(x, constant(0.5)), add(constant(1), tanh));
  }
  case llm::ActivationKind::relu: {
    // x < 0, not max: a NaN stays a NaN.
    Value zero = constant(0);
    Value isNegative =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, x, zero);
    return arith::SelectOp::create(b, isNegative, zero, x);
  }
  }
  llvm_unreachable("every activation is handled");
}

Value lower(Lowering& l, llm::AddOp op, ValueRange in) {
  return l.elementwise(in, op.getResult().getType(),
                       [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
                         return arith::AddFOp::create(b, v[0], v[1]);
                       });
}

Value lower(Lowering& l, llm::AddBiasOp op, ValueRange in) {
  return l.elementwise(in, op.getResult().getType(),
                       [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
                         return arith::AddFOp::create(b, v[0], v[1]);
                       });
}

Value lower(Lowering& l, llm::MulOp op, ValueRange in) {
  return l.elementwise(in, op.getResult().getType(),
                       [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
                         return arith::MulFOp::create(b, v[0], v[1]);
                       });
}

Value lower(Lowering& l, llm::ScaleOp op, ValueRange in) {
  // The factor is rounded to the element type first.
  llvm::APFloat factor = op.getFactor();
  bool losesInfo = false;
  factor.convert(cast<FloatType>(op.getResult().getType().getElementType())
                     .getFloatSemantics(),
                 llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  double rounded = factor.convertToDouble();
  return l.elementwise(
      in, op.getResult().getType(),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        return arith::MulFOp::create(b, v[0], constantF32(b, rounded));
      });
}

Value lower(Lowering& l, llm::SoftCapOp op, ValueRange in) {
  double cap = op.getCap().convertToDouble();
  return l.elementwise(
      in, op.getResult().getType(),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        Value ratio = arith::DivFOp::create(b, v[0], constantF32(b, cap));
        return arith::MulFOp::create(b, constantF32(b, cap),
                                     math::TanhOp::create(b, ratio));
      });
}

Value lower(Lowering& l, llm::ActivationOp op, ValueRange in) {
  return l.elementwise(in, op.getResult().getType(),
                       [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
                         return activate(b, op.getKind(), v[0]);
                       });
}

Value lower(Lowering& l, llm::GatedActivationOp op, ValueRange in) {
  return l.elementwise(
      in, op.getResult().getType(),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        return arith::MulFOp::create(b, activate(b, op.getKind(), v[0]), v[1]);
      });
}

Value lower(Lowering& l, llm::RmsNormOp op, ValueRange in) {
  int64_t width = l.typeOf(in[1]).getDimSize(0);
  double offset = op.getOffset().convertToDouble();
  Value x = l.expandHeads(in[0], width);
  Value squares =
      l.sumOfRow(x, [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        return arith::MulFOp::create(b, v[0], v[0]);
      });
  Value inverse =
      l.reciprocalRoot(squares, width, op.getEps().convertToDouble());
  Value normed = l.elementwise(
      {x, inverse, in[1]}, l.typeOf(x),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        Value weight = v[2];
        if (offset != 0)
          weight = arith::AddFOp::create(b, weight, constantF32(b, offset));
        Value scaled = arith::MulFOp::create(b, v[0], v[1]);
        return arith::MulFOp::create(b, scaled, weight);
      });
  return l.collapseHeads(normed, op.getResult().getType());
}

Value lower(Lowering& l, llm::LayerNormOp op, ValueRange in) {
  int64_t width = l.typeOf(in[0]).getDimSize(1);
  Value sums = l.sumOfRow(
      in[0],
      [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value { return v[0]; });
  Value mean = l.elementwise(
      sums, l.typeOf(sums),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        return arith::DivFOp::create(b, v[0], constantF32(b, width));
      });
  Value squares = l.sumOfRow(
      {in[0], mean}, [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        Value difference = arith::SubFOp::create(b, v[0], v[1]);
        return arith::MulFOp::create(b, difference, difference);
      });
  Value inverse =
      l.reciprocalRoot(squares, width, op.getEps().convertToDouble());
  return l.elementwise(
      {in[0], mean, inverse, in[1], in[2]}, op.getResult().getType(),
      [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        Value difference = arith::SubFOp::create(b, v[0], v[1]);
        Value scaled = arith::MulFOp::create(b, difference, v[2]);
        Value weighted = arith::MulFOp::create(b, scaled, v[3]);
        return arith::AddFOp::create(b, weighted, v[4]);
      });
}

/// What every later step takes for granted about the types.
LogicalResult verifyTypes(plan::KernelOp kernel) {
  int64_t width = 0;
  auto check = [&](Type type, bool isArgument) -> LogicalResult {
    auto tensor = dyn_cast<RankedTensorType>(type);
    bool isVector = tensor && isArgument && tensor.getRank() == 1 &&
                    tensor.hasStaticShape();
    bool isRows = tensor && tensor.getRank() == 2 && tensor.isDynamicDim(0) &&
                  !tensor.isDynamicDim(1);
    if ((!isVector && !isRows) ||
        !(tensor.getElementType().isF32() || tensor.getElementType().isBF16()))
      return kernel.emitError("LLMC-E1003: expects f32 or bf16 tensors of "
                              "dynamic rows, or vectors, got ")
             << type;
    if (tensor.getShape().back() < 1 || tensor.getShape().back() > INT32_MAX)
      return kernel.emitError(
                 "LLMC-E1003: expects a width from 1 to 2^31 - 1, got ")
             << type;
    if (isVector)
      return success();
    if (width != 0 && width != tensor.getDimSize(1))
      return kernel.emitError("LLMC-E1003: expects rows of one width, got ")
             << width << " and " << tensor.getDimSize(1);
    width = tensor.getDimSize(1);
    return success();
  };
  Block& body = kernel.getBody().front();
  for (Type type : body.getArgumentTypes())
    if (failed(check(type, /*isArgument=*/true)))
      return failure();
  for (Operation& op : body)
    for (Type type : op.getResultTypes())
      if (failed(check(type, /*isArgument=*/false)))
        return failure();
  auto yield = dyn_cast<plan::YieldOp>(body.back());
  if (!yield || yield.getValues().empty() || width == 0)
    return kernel.emitError(
        "LLMC-E1003: expects at least one tensor of rows as result");
  for (Type type : yield.getValues().getTypes())
    if (failed(check(type, /*isArgument=*/false)))
      return failure();
  return success();
}

} // namespace

FailureOr<func::FuncOp> lowerKernelToLinalg(plan::KernelOp kernel,
                                            OpBuilder& builder) {
  if (!kernel.isGenerated())
    return kernel.emitError(
        "LLMC-E1003: expects a kernel with a body to generate");
  if (failed(verifyTypes(kernel)))
    return failure();
  Block& body = kernel.getBody().front();
  auto yield = cast<plan::YieldOp>(body.back());
  OpBuilder::InsertionGuard guard(builder);
  auto func = func::FuncOp::create(
      builder, kernel.getLoc(), kernel.getSymName(),
      builder.getFunctionType(body.getArgumentTypes(),
                              yield.getValues().getTypes()));
  Block* entry = func.addEntryBlock();
  Lowering l(ImplicitLocOpBuilder(kernel.getLoc(), builder.getContext()));
  l.b.setInsertionPointToStart(entry);
  l.values.map(body.getArguments(), entry->getArguments());
  for (BlockArgument arg : entry->getArguments())
    if (!l.rows && l.typeOf(arg).getRank() == 2)
      l.rows = tensor::DimOp::create(l.b, arg, 0);
  for (Operation& op : body.without_terminator()) {
    SmallVector<Value> in;
    for (Value operand : op.getOperands())
      in.push_back(l.values.lookup(operand));
    l.b.setLoc(op.getLoc());
    Value result =
        llvm::TypeSwitch<Operation*, Value>(&op)
            .Case<llm::AddOp, llm::AddBiasOp, llm::MulOp, llm::ScaleOp,
                  llm::SoftCapOp, llm::ActivationOp, llm::GatedActivationOp,
                  llm::RmsNormOp, llm::LayerNormOp>(
                [&](auto rowOp) { return lower(l, rowOp, in); })
            .Default([](Operation*) { return Value(); });
    if (!result) {
      func.erase();
      return op.emitError("LLMC-E1003: no code can be generated for ")
             << op.getName();
    }
    l.values.map(op.getResult(0), result);
  }
  SmallVector<Value> results;
  for (Value v : yield.getValues())
    results.push_back(l.values.lookup(v));
  func::ReturnOp::create(l.b, results);
  return func;
}

} // namespace llmc
