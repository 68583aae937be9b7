// SPDX-License-Identifier: Apache-2.0
// One short function per row op of the `llm` dialect. The scalar bodies here
// are the definition of what generated kernels compute: targets may reorder a
// sum, nothing else.
#include "compiler/codegen/LowerKernelToLinalg.h"

#include "compiler/codegen/RowLowering.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace llmc {
namespace {

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

Value lower(Lowering& l, llm::RoundOp op, ValueRange in) {
  return l.elementwise(in, op.getResult().getType(),
                       [](ImplicitLocOpBuilder&, ArrayRef<Value> v) -> Value {
                         return v[0]; // the result's type rounds
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
    SmallVector<Value> out = lowerGradient(l, &op, in);
    if (out.empty())
      out.push_back(
          llvm::TypeSwitch<Operation*, Value>(&op)
              .Case<llm::AddOp, llm::AddBiasOp, llm::MulOp, llm::ScaleOp,
                    llm::SoftCapOp, llm::ActivationOp, llm::GatedActivationOp,
                    llm::RoundOp, llm::RmsNormOp, llm::LayerNormOp>(
                  [&](auto rowOp) { return lower(l, rowOp, in); })
              .Default([](Operation*) { return Value(); }));
    if (!out.front()) {
      func.erase();
      return op.emitError("LLMC-E1003: no code can be generated for ")
             << op.getName();
    }
    for (auto [result, value] : llvm::zip(op.getResults(), out))
      l.values.map(result, value);
  }
  SmallVector<Value> results;
  for (Value v : yield.getValues())
    results.push_back(l.values.lookup(v));
  func::ReturnOp::create(l.b, results);
  return func;
}

} // namespace llmc
