// SPDX-License-Identifier: Apache-2.0
// Philox and Box-Muller on lanes side by side: a billion elements are
// initialised in seconds. Logarithm, sine and cosine are polynomials in double
// with about 1e-15 of relative error, so that a value rounded to float is
// almost always that of normal() and at most one unit in the last place off
// (the test counts). Without fused multiply-adds, every CPU level computes the
// same bits.
#include "runtime/executor/RandomNormal.h"

#include "runtime/base/Philox.h"

#include <algorithm>

namespace llmrt {
namespace {

/// Pairs of elements computed at a time.
constexpr int kPairs = 256;

// The loops below vectorise only if inlined into each clone.
#define LLMRT_INLINE __attribute__((always_inline)) inline

// Returns log(x) for normal x in (0, 1]: x = m * 2^e with m in [sqrt(1/2),
// sqrt(2)), log m = 2 atanh(s), s = (m - 1) / (m + 1).
LLMRT_INLINE double logarithm(double x) {
  uint64_t bits = __builtin_bit_cast(uint64_t, x);
  // The offset moves the border between exponents from 1 to sqrt(2).
  constexpr uint64_t kSqrtHalfBits = 0x3FE6A09E667F3BCD;
  uint64_t shifted = bits - kSqrtHalfBits;
  int64_t exponent = static_cast<int64_t>(shifted) >> 52;
  double m = __builtin_bit_cast(double,
                                bits - (static_cast<uint64_t>(exponent) << 52));
  double s = (m - 1.0) / (m + 1.0);
  double z = s * s;
  // Taylor coefficients of atanh(s) / s; z <= 0.0295, so the next term is below
  // 1e-17.
  double p = 1.0 / 23;
  p = p * z + 1.0 / 21;
  p = p * z + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  double tail = 2.0 * s * z * p;
  constexpr double kLog2 = 0.693147180559945309417;
  // Exact conversion of a small integer without a 64-bit instruction.
  double e =
      __builtin_bit_cast(double, (exponent + 1075) | 0x4330000000000000) -
      (0x1p52 + 1075);
  return e * kLog2 + (2.0 * s + tail);
}

// Returns sin(x) for |x| <= pi / 4.
LLMRT_INLINE double sine(double x) {
  double z = x * x;
  double p = 1.0 / 355687428096000.0; // 17!
  p = p * z - 1.0 / 1307674368000.0;
  p = p * z + 1.0 / 6227020800.0;
  p = p * z - 1.0 / 39916800.0;
  p = p * z + 1.0 / 362880.0;
  p = p * z - 1.0 / 5040.0;
  p = p * z + 1.0 / 120.0;
  p = p * z - 1.0 / 6.0;
  return x + x * z * p;
}

// Returns cos(x) for |x| <= pi / 4.
LLMRT_INLINE double cosine(double x) {
  double z = x * x;
  double p = 1.0 / 20922789888000.0; // 16!
  p = p * z - 1.0 / 87178291200.0;
  p = p * z + 1.0 / 479001600.0;
  p = p * z - 1.0 / 3628800.0;
  p = p * z + 1.0 / 40320.0;
  p = p * z - 1.0 / 720.0;
  p = p * z + 1.0 / 24.0;
  p = p * z - 1.0 / 2.0;
  return 1.0 + z * p;
}

// Returns a uniform of [0, 1) with 53 bits, as uniformFromWords().
LLMRT_INLINE double uniform(uint64_t low, uint64_t high) {
  uint64_t bits = (high << 32 | low) >> 11;
  // 2^52 + the low 52 bits, and the 53rd apart: conversions without AVX-512.
  double small =
      __builtin_bit_cast(double, (bits & 0xFFFFFFFF) | 0x4330000000000000) -
      0x1p52;
  double large =
      __builtin_bit_cast(double, (bits >> 32) | 0x4330000000000000) - 0x1p52;
  return (large * 0x1p32 + small) * 0x1p-53;
}

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) &&                    \
    !defined(__SANITIZE_ADDRESS__)
#define LLMRT_CLONES                                                           \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else // sanitizers cannot run the resolvers of clones
#define LLMRT_CLONES
#endif

// Writes the pairs of blocks [firstBlock, firstBlock + kPairs).
LLMRT_CLONES void normalPairs(uint64_t seed, uint64_t stream,
                              uint64_t firstBlock, double* even, double* odd) {
  for (int i = 0; i < kPairs; ++i) {
    uint64_t block = firstBlock + i;
    uint64_t c0 = block & 0xFFFFFFFF;
    uint64_t c1 = block >> 32;
    uint64_t c2 = stream & 0xFFFFFFFF;
    uint64_t c3 = stream >> 32;
    uint64_t k0 = seed & 0xFFFFFFFF;
    uint64_t k1 = seed >> 32;
    for (int round = 0; round < 10; ++round) {
      uint64_t p0 = 0xD2511F53u * c0;
      uint64_t p1 = 0xCD9E8D57u * c2;
      c0 = (p1 >> 32) ^ c1 ^ k0;
      c2 = (p0 >> 32) ^ c3 ^ k1;
      c1 = p1 & 0xFFFFFFFF;
      c3 = p0 & 0xFFFFFFFF;
      k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF;
      k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF;
    }
    double radius = __builtin_sqrt(-2.0 * logarithm(uniform(c0, c1) + 0x1p-53));
    // The angle is a turn in quarters: the nearest whole one, and the rest.
    double quarters = 4.0 * uniform(c2, c3);
    double rounded = quarters + 0x1.8p52;
    uint64_t quadrant = __builtin_bit_cast(uint64_t, rounded);
    double rest = (quarters - (rounded - 0x1.8p52)) * 1.57079632679489661923;
    double s = sine(rest);
    double c = cosine(rest);
    double a = quadrant & 1 ? s : c;
    double b = quadrant & 1 ? c : s;
    even[i] = radius * ((quadrant + 1) & 2 ? -a : a);
    odd[i] = radius * (quadrant & 2 ? -b : b);
  }
}

} // namespace

void fillNormal(uint64_t seed, uint64_t stream, int64_t begin,
                int64_t numElements, float deviation, float* out) {
  double even[kPairs];
  double odd[kPairs];
  int64_t end = begin + numElements;
  for (int64_t first = begin / 2 * 2; first < end; first += 2 * kPairs) {
    normalPairs(seed, stream, first / 2, even, odd);
    int64_t last = std::min(end, first + 2 * kPairs);
    for (int64_t i = std::max(first, begin); i < last; ++i) {
      const double* pair = i % 2 == 0 ? even : odd;
      out[i - begin] = deviation * static_cast<float>(pair[(i - first) / 2]);
    }
  }
}

} // namespace llmrt
