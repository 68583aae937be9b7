// SPDX-License-Identifier: Apache-2.0
// Activation functions, and one short function per row op that only a backward
// pass has. As in LowerKernelToLinalg.cpp the scalar bodies are the definition.
#include "compiler/codegen/RowLowering.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

namespace llmc {

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

namespace {

/// activation'(x).
Value derivative(ImplicitLocOpBuilder& b, llm::ActivationKind kind, Value x) {
  auto constant = [&](double v) { return constantF32(b, v); };
  auto add = [&](Value l, Value r) -> Value {
    return arith::AddFOp::create(b, l, r);
  };
  auto sub = [&](Value l, Value r) -> Value {
    return arith::SubFOp::create(b, l, r);
  };
  auto mul = [&](Value l, Value r) -> Value {
    return arith::MulFOp::create(b, l, r);
  };
  switch (kind) {
  case llm::ActivationKind::silu: {
    // s (1 + x (1 - s)) with s = 1 / (1 + exp(-x))
    Value grown = math::ExpOp::create(b, arith::NegFOp::create(b, x));
    Value s = arith::DivFOp::create(b, constant(1), add(constant(1), grown));
    return mul(s, add(constant(1), mul(x, sub(constant(1), s))));
  }
  case llm::ActivationKind::gelu: {
    // (1 + erf(x / sqrt 2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi)
    Value erf = math::ErfOp::create(b, mul(x, constant(std::sqrt(0.5))));
    Value half = mul(constant(0.5), add(constant(1), erf));
    Value density = math::ExpOp::create(b, mul(constant(-0.5), mul(x, x)));
    return add(half, mul(mul(x, constant(1 / std::sqrt(2 * M_PI))), density));
  }
  case llm::ActivationKind::gelu_tanh: {
    // (1 + t) / 2 + x (1 - t^2) u' / 2 with t = tanh(u)
    Value square = mul(x, x);
    double scale = std::sqrt(2 / M_PI);
    Value inner =
        mul(constant(scale), add(x, mul(constant(0.044715), mul(square, x))));
    Value t = math::TanhOp::create(b, inner);
    Value slope = mul(constant(scale),
                      add(constant(1), mul(constant(3 * 0.044715), square)));
    Value left = mul(constant(0.5), add(constant(1), t));
    Value right =
        mul(mul(mul(x, constant(0.5)), sub(constant(1), mul(t, t))), slope);
    return add(left, right);
  }
  case llm::ActivationKind::relu: {
    Value isPositive =
        arith::CmpFOp::create(b, arith::CmpFPredicate::OGT, x, constant(0));
    return arith::SelectOp::create(b, isPositive, constant(1), constant(0));
  }
  }
  llvm_unreachable("every activation is handled");
}

Value product(ImplicitLocOpBuilder& b, Value x, Value y) {
  return arith::MulFOp::create(b, x, y);
}

SmallVector<Value> lower(Lowering& l, llm::ActivationGradientOp op,
                         ValueRange in) {
  return {l.elementwise(in, l.typeOf(op.getResult()),
                        [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
                          return product(b, v[0],
                                         derivative(b, op.getKind(), v[1]));
                        })};
}

SmallVector<Value> lower(Lowering& l, llm::GatedActivationGradientOp op,
                         ValueRange in) {
  auto type = l.typeOf(op.getDup());
  Value dgate =
      l.elementwise(in, type, [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        return product(b, product(b, v[0], v[2]),
                       derivative(b, op.getKind(), v[1]));
      });
  Value dup = l.elementwise(
      {in[0], in[1]}, type, [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        return product(b, v[0], activate(b, op.getKind(), v[1]));
      });
  return {dgate, dup};
}

SmallVector<Value> lower(Lowering& l, llm::SoftCapGradientOp op,
                         ValueRange in) {
  double cap = op.getCap().convertToDouble();
  return {l.elementwise(
      in, l.typeOf(op.getResult()),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        Value ratio = arith::DivFOp::create(b, v[1], constantF32(b, cap));
        Value t = math::TanhOp::create(b, ratio);
        Value slope =
            arith::SubFOp::create(b, constantF32(b, 1), product(b, t, t));
        return product(b, v[0], slope);
      })};
}

/// sums / width
Value mean(Lowering& l, Value sums, int64_t width) {
  return l.elementwise(
      sums, l.typeOf(sums),
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) -> Value {
        return arith::DivFOp::create(b, v[0], constantF32(b, width));
      });
}

SmallVector<Value> lower(Lowering& l, llm::RmsNormGradientOp op,
                         ValueRange in) {
  int64_t width = l.typeOf(in[2]).getDimSize(0);
  double offset = op.getOffset().convertToDouble();
  Value dy = l.expandHeads(in[0], width), x = l.expandHeads(in[1], width);
  Value weight = in[2];
  auto type = l.typeOf(x);
  auto weighted = [&](ImplicitLocOpBuilder& b, Value g, Value w) {
    if (offset != 0)
      w = arith::AddFOp::create(b, w, constantF32(b, offset));
    return product(b, g, w);
  };
  Value squares = l.sumOfRow(x, [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
    return product(b, v[0], v[0]);
  });
  Value r = l.reciprocalRoot(squares, width, op.getEps().convertToDouble());
  Value dots = l.sumOfRow({dy, x, weight},
                          [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
                            return product(b, weighted(b, v[0], v[2]), v[1]);
                          });
  Value average = mean(l, dots, width);
  Value dx = l.elementwise(
      {dy, x, weight, r, average}, type,
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        Value pull = product(b, product(b, v[1], product(b, v[3], v[3])), v[4]);
        Value difference =
            arith::SubFOp::create(b, weighted(b, v[0], v[2]), pull);
        return product(b, v[3], difference);
      });
  Value scaled = l.elementwise(
      {dy, x, r}, type, [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        return product(b, v[0], product(b, v[1], v[2]));
      });
  auto full = l.typeOf(op.getDx());
  return {l.collapseHeads(dx, full), l.collapseHeads(scaled, full)};
}

SmallVector<Value> lower(Lowering& l, llm::LayerNormGradientOp op,
                         ValueRange in) {
  Value dy = in[0], x = in[1], weight = in[2];
  auto type = l.typeOf(op.getDx());
  int64_t width = type.getDimSize(1);
  Value center = mean(l,
                      l.sumOfRow(x, [](ImplicitLocOpBuilder&,
                                       ArrayRef<Value> v) { return v[0]; }),
                      width);
  Value squares =
      l.sumOfRow({x, center}, [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        Value difference = arith::SubFOp::create(b, v[0], v[1]);
        return product(b, difference, difference);
      });
  Value r = l.reciprocalRoot(squares, width, op.getEps().convertToDouble());
  auto normed = [](ImplicitLocOpBuilder& b, Value x, Value center, Value r) {
    return product(b, arith::SubFOp::create(b, x, center), r);
  };
  Value sum =
      l.sumOfRow({dy, weight}, [](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        return product(b, v[0], v[1]);
      });
  Value dots = l.sumOfRow({dy, weight, x, center, r},
                          [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
                            return product(b, product(b, v[0], v[1]),
                                           normed(b, v[2], v[3], v[4]));
                          });
  Value meanOfSum = mean(l, sum, width), meanOfDots = mean(l, dots, width);
  Value dx = l.elementwise(
      {dy, weight, x, center, r, meanOfSum, meanOfDots}, type,
      [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
        Value h = normed(b, v[2], v[3], v[4]);
        Value left = arith::SubFOp::create(b, product(b, v[0], v[1]), v[5]);
        Value difference = arith::SubFOp::create(b, left, product(b, h, v[6]));
        return product(b, v[4], difference);
      });
  Value scaled =
      l.elementwise({dy, x, center, r}, type,
                    [&](ImplicitLocOpBuilder& b, ArrayRef<Value> v) {
                      return product(b, v[0], normed(b, v[1], v[2], v[3]));
                    });
  return {dx, scaled};
}

} // namespace

SmallVector<Value> lowerGradient(Lowering& l, Operation* op, ValueRange in) {
  return llvm::TypeSwitch<Operation*, SmallVector<Value>>(op)
      .Case<llm::ActivationGradientOp, llm::GatedActivationGradientOp,
            llm::SoftCapGradientOp, llm::RmsNormGradientOp,
            llm::LayerNormGradientOp>(
          [&](auto rowOp) { return lower(l, rowOp, in); })
      .Default([](Operation*) { return SmallVector<Value>(); });
}

} // namespace llmc
