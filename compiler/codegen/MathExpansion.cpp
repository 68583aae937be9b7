// SPDX-License-Identifier: Apache-2.0
// Polynomials and bit operations behind MathExpansion.h. Comparisons are
// written so that a NaN takes the branch that keeps it; no float is ever
// converted to an integer, which LLVM leaves undefined out of range.
#include "compiler/codegen/MathExpansion.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;

namespace llmc {
namespace {

/// Arithmetic on f32 scalars or vectors, whichever the sample is.
struct Real {
  ImplicitLocOpBuilder& b;
  Type realType;

  Real(ImplicitLocOpBuilder& builder, Value sample)
      : b(builder), realType(sample.getType()) {}

  Type integerType(unsigned width) {
    Type element = b.getIntegerType(width);
    if (auto vector = dyn_cast<VectorType>(realType))
      return vector.clone(element);
    return element;
  }

  Value constant(float value) {
    return splat(realType, b.getF32FloatAttr(value));
  }

  Value integer(uint32_t value) {
    return splat(integerType(32),
                 b.getI32IntegerAttr(static_cast<int32_t>(value)));
  }

  Value splat(Type type, TypedAttr scalar) {
    if (auto vector = dyn_cast<VectorType>(type))
      return arith::ConstantOp::create(b,
                                       DenseElementsAttr::get(vector, scalar));
    return arith::ConstantOp::create(b, scalar);
  }

  Value add(Value l, Value r) { return arith::AddFOp::create(b, l, r); }

  Value sub(Value l, Value r) { return arith::SubFOp::create(b, l, r); }

  Value mul(Value l, Value r) { return arith::MulFOp::create(b, l, r); }

  Value div(Value l, Value r) { return arith::DivFOp::create(b, l, r); }

  Value bits(Value x) {
    return arith::BitcastOp::create(b, integerType(32), x);
  }

  Value fromBits(Value x) { return arith::BitcastOp::create(b, realType, x); }

  Value less(Value l, Value r) {
    return arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, l, r);
  }

  Value select(Value condition, Value l, Value r) {
    return arith::SelectOp::create(b, condition, l, r);
  }

  /// Returns l where l < r, else r: a NaN in r goes through.
  Value lesser(Value l, Value r) { return select(less(l, r), l, r); }

  Value greater(Value l, Value r) { return select(less(r, l), l, r); }

  /// Coefficients from the highest power down, by Horner's rule.
  Value polynomial(Value x, ArrayRef<float> coefficients) {
    Value sum = constant(coefficients[0]);
    for (float c : coefficients.drop_front())
      sum = add(mul(sum, x), constant(c));
    return sum;
  }

  Value signOf(Value x) {
    return arith::AndIOp::create(b, bits(x), integer(0x80000000u));
  }

  Value withSign(Value x, Value sign) {
    return fromBits(arith::OrIOp::create(b, bits(x), sign));
  }
};

} // namespace

// Source  Cephes expf: x = n log 2 + r, |r| <= log 2 / 2, and a polynomial in
// r.
Value expandExp(ImplicitLocOpBuilder& b, Value x) {
  Real m(b, x);
  // e^89 overflows and e^-104 rounds to zero.
  Value clamped = m.greater(m.constant(-104.0f), x);
  clamped = m.lesser(m.constant(89.0f), clamped);
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa
  // bits.
  Value magic = m.constant(12582912.0f);
  Value shifted =
      m.add(m.mul(clamped, m.constant(1.44269504088896341f)), magic);
  Value n = m.sub(shifted, magic);
  Value r = m.sub(clamped, m.mul(n, m.constant(0.693359375f)));
  r = m.add(r, m.mul(n, m.constant(2.12194440e-4f)));
  Value poly =
      m.polynomial(r, {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                       4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f});
  Value power = m.add(m.mul(poly, m.mul(r, r)), r);
  power = m.add(power, m.constant(1.0f));
  // 2^n in two factors, since n may be one beyond the exponents of f32.
  Value exponent = arith::SubIOp::create(b, m.bits(shifted), m.bits(magic));
  Value half = arith::ShRSIOp::create(b, exponent, m.integer(1));
  Value rest = arith::SubIOp::create(b, exponent, half);
  for (Value part : {half, rest}) {
    Value biased = arith::AddIOp::create(b, part, m.integer(127));
    Value factor = arith::ShLIOp::create(b, biased, m.integer(23));
    power = m.mul(power, m.fromBits(factor));
  }
  return power;
}

// Source  Cephes tanhf: a polynomial below 0.625, else 1 - 2 / (e^2x + 1).
Value expandTanh(ImplicitLocOpBuilder& b, Value x) {
  Real m(b, x);
  Value sign = m.signOf(x);
  Value magnitude = math::AbsFOp::create(b, x);
  Value square = m.mul(x, x);
  Value poly = m.polynomial(square, {-5.70498872745e-3f, 2.06390887954e-2f,
                                     -5.37397155531e-2f, 1.33314422036e-1f,
                                     -3.33332819422e-1f});
  Value small = m.add(m.mul(m.mul(poly, square), x), x);
  Value grown = expandExp(b, m.mul(magnitude, m.constant(2.0f)));
  Value large = m.sub(m.constant(1.0f),
                      m.div(m.constant(2.0f), m.add(grown, m.constant(1.0f))));
  // With the sign on both: the polynomial makes +0 of -0.
  return m.withSign(
      m.select(m.less(magnitude, m.constant(0.625f)), small, large), sign);
}

// Below 1 a polynomial in x^2, else 1 - exp(-q(|x|)), where q is fitted to -log
// erfc. Both are minimax fits (Remez exchange) in the error relative to erf.
Value expandErf(ImplicitLocOpBuilder& b, Value x) {
  Real m(b, x);
  Value sign = m.signOf(x);
  Value magnitude = math::AbsFOp::create(b, x);
  Value square = m.mul(x, x);
  Value poly =
      m.polynomial(square, {7.853861087554028e-05f, -8.010193023533261e-04f,
                            5.188327673624451e-03f, -2.6853811927836094e-02f,
                            1.1283585148404636e-01f, -3.7612625824212936e-01f,
                            1.2837916572671282e-01f});
  Value small = m.add(m.mul(poly, x), x);
  // Beyond 4 the result is 1.
  Value t = m.lesser(m.constant(4.0f), magnitude);
  Value logarithm =
      m.polynomial(t, {1.8637899618848425e-04f, -2.9476563529748185e-03f,
                       2.183805608679998e-02f, -1.0310673777614793e-01f,
                       -6.381448524166884e-01f, -1.1270891781864465f,
                       -3.415260047373199e-04f});
  Value large = m.sub(m.constant(1.0f), expandExp(b, logarithm));
  return m.withSign(m.select(m.less(magnitude, m.constant(1.0f)), small, large),
                    sign);
}

Value expandRoundToBf16(ImplicitLocOpBuilder& b, Value x) {
  Real m(b, x);
  Value bits = m.bits(x);
  Value odd = arith::AndIOp::create(
      b, arith::ShRUIOp::create(b, bits, m.integer(16)), m.integer(1));
  Value bias = arith::AddIOp::create(b, odd, m.integer(0x7fff));
  Value rounded = arith::AddIOp::create(b, bits, bias);
  // The addition could carry a NaN into an infinity; setting its quiet bit
  // cannot.
  Value quiet = arith::OrIOp::create(b, bits, m.integer(0x00400000));
  Value isNan = arith::CmpFOp::create(b, arith::CmpFPredicate::UNO, x, x);
  Value chosen = m.select(isNan, quiet, rounded);
  return m.fromBits(arith::AndIOp::create(b, chosen, m.integer(0xffff0000u)));
}

Value upperHalf(ImplicitLocOpBuilder& b, Value x) {
  Real m(b, x);
  Value shifted = arith::ShRUIOp::create(b, m.bits(x), m.integer(16));
  return arith::TruncIOp::create(b, m.integerType(16), shifted);
}

Value fromUpperHalf(ImplicitLocOpBuilder& b, Value halves) {
  Type realType = b.getF32Type();
  if (auto vector = dyn_cast<VectorType>(halves.getType()))
    realType = vector.clone(realType);
  Type wordType = b.getI32Type();
  if (auto vector = dyn_cast<VectorType>(halves.getType()))
    wordType = vector.clone(wordType);
  Value wide = arith::ExtUIOp::create(b, wordType, halves);
  TypedAttr sixteen = b.getI32IntegerAttr(16);
  if (auto vector = dyn_cast<VectorType>(wordType))
    sixteen = DenseElementsAttr::get(vector, Attribute(sixteen));
  Value shifted =
      arith::ShLIOp::create(b, wide, arith::ConstantOp::create(b, sixteen));
  return arith::BitcastOp::create(b, realType, shifted);
}

} // namespace llmc
