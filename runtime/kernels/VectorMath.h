// SPDX-License-Identifier: Apache-2.0
// exp and tanh on vectors, for kernel sources that are compiled for each CPU
// level. A lane's result depends on that lane alone. Largest errors in units in
// the last place, measured over every fifth float of the stated range by
// tests/kernels/VectorMathTest.cpp with LLMRT_MATH_STRIDE=5 (baseline; avx2 and
// avx512):
//   exp   [-87.33, 88.37]  0.98; 1.01        tanh  all finite  1.33; 1.33
#pragma once

#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

/// Returns e^x: exactly 1 at 0; 0 below -87.33 (where the result would leave
/// the normal floats) and at -inf; the largest results end at x = 88.37
/// (clamped there). Source  Cephes expf: x = n log 2 + r, |r| <= log 2 / 2, a
/// polynomial in r.
LLMRT_INLINE Vec expVec(Vec x) {
  const Vec lowest = splat(-87.33f);
  // x is the second operand: the instructions then let a NaN through.
  Vec clamped = vmin(splat(88.37f), vmax(lowest, x));
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa
  // bits.
  const Vec magic = splat(12582912.0f);
  Vec shifted = fma(clamped, splat(1.44269504088896341f), magic);
  Vec n = shifted - magic;
  Vec r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  Vec poly = splat(1.9875691500e-4f);
  poly = fma(poly, r, splat(1.3981999507e-3f));
  poly = fma(poly, r, splat(8.3334519073e-3f));
  poly = fma(poly, r, splat(4.1665795894e-2f));
  poly = fma(poly, r, splat(1.6666665459e-1f));
  poly = fma(poly, r, splat(5.0000001201e-1f));
  poly = fma(poly, r * r, r) + splat(1.0f);
  Vec result = fromBits(addInt(bits(poly), shiftLeft<23>(bits(shifted))));
  return ifLess(x, lowest, zero(), result);
}

/// Returns tanh x. Source  Cephes tanhf: a polynomial below 0.625, else by exp.
LLMRT_INLINE Vec tanhVec(Vec x) {
  const VecInt signBit = splatInt(static_cast<int>(0x80000000u));
  VecInt sign = andInt(bits(x), signBit);
  Vec magnitude = fromBits(subInt(bits(x), sign));
  Vec square = x * x;
  Vec poly = splat(-5.70498872745e-3f);
  poly = fma(poly, square, splat(2.06390887954e-2f));
  poly = fma(poly, square, splat(-5.37397155531e-2f));
  poly = fma(poly, square, splat(1.33314422036e-1f));
  poly = fma(poly, square, splat(-3.33332819422e-1f));
  Vec small = fma(poly * square, x, x);
  Vec grown = expVec(vmin(splat(20.0f), magnitude) * splat(2.0f));
  Vec large = splat(1.0f) - splat(2.0f) / (grown + splat(1.0f));
  large = fromBits(orInt(bits(large), sign));
  return ifLess(magnitude, splat(0.625f), small, large);
}

} // namespace llmrt::LLMRT_LEVEL
