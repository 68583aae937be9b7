// SPDX-License-Identifier: Apache-2.0
// One vector of floats at the CPU level that the including file is compiled
// for. Every kernel source is compiled once for each level, with LLMRT_LEVEL
// naming the level's namespace; all that is inline here lives in that
// namespace, and kernel sources call no inline function of the standard
// library, so that the linker never merges code of two levels. Included by
// kernel sources only.
//
// Fma is one rounding at avx2 and avx512; baseline has no such instruction and
// rounds the product and then the sum.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include <immintrin.h>

#ifndef LLMRT_LEVEL
#error "Simd.h belongs to sources that are compiled for each CPU level"
#endif
#define LLMRT_INLINE inline __attribute__((always_inline))

namespace llmrt::LLMRT_LEVEL {

struct BF16 {
  uint16_t bits;
};

LLMRT_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

LLMRT_INLINE int64_t greatest(int64_t a, int64_t b) { return a > b ? a : b; }

LLMRT_INLINE float widen(float x) { return x; }

LLMRT_INLINE float widen(BF16 x) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16);
}

LLMRT_INLINE void narrowTo(float x, float* out) { *out = x; }

/// Rounds to nearest, ties to even; a NaN stays a NaN.
LLMRT_INLINE void narrowTo(float x, BF16* out) {
  uint32_t bits = __builtin_bit_cast(uint32_t, x);
  uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  uint32_t quiet = bits >> 16 | 0x40;
  out->bits =
      static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded);
}

#if defined(__AVX512F__)

inline constexpr int kLanes = 16;
/// Rows of the largest register tile of two vectors: 28 sums, 2 weights, 1
/// factor.
inline constexpr int kTileRows = 14;
using Vec = __m512;
using VecInt = __m512i;

LLMRT_INLINE Vec splat(float x) { return _mm512_set1_ps(x); }

LLMRT_INLINE VecInt splatInt(int x) { return _mm512_set1_epi32(x); }

LLMRT_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }

LLMRT_INLINE Vec load(const BF16* p) {
  __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

LLMRT_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }

LLMRT_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }

LLMRT_INLINE Vec squareRoot(Vec a) { return _mm512_sqrt_ps(a); }

LLMRT_INLINE Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }

LLMRT_INLINE Vec vmin(Vec a, Vec b) { return _mm512_min_ps(a, b); }

LLMRT_INLINE VecInt bits(Vec v) { return _mm512_castps_si512(v); }

LLMRT_INLINE Vec fromBits(VecInt v) { return _mm512_castsi512_ps(v); }

LLMRT_INLINE VecInt addInt(VecInt a, VecInt b) {
  return _mm512_add_epi32(a, b);
}

LLMRT_INLINE VecInt subInt(VecInt a, VecInt b) {
  return _mm512_sub_epi32(a, b);
}

LLMRT_INLINE VecInt andInt(VecInt a, VecInt b) {
  return _mm512_and_si512(a, b);
}

LLMRT_INLINE VecInt orInt(VecInt a, VecInt b) { return _mm512_or_si512(a, b); }

template <int count>
LLMRT_INLINE VecInt shiftLeft(VecInt a) {
  return _mm512_slli_epi32(a, count);
}

LLMRT_INLINE VecInt laneIndex() {
  return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

/// Returns a where x < y, else b.
LLMRT_INLINE Vec ifLess(Vec x, Vec y, Vec a, Vec b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
}

LLMRT_INLINE Vec ifLessInt(VecInt x, VecInt y, Vec a, Vec b) {
  return _mm512_mask_blend_ps(_mm512_cmplt_epi32_mask(x, y), b, a);
}

LLMRT_INLINE VecInt loadInt(const void* p) { return _mm512_loadu_si512(p); }

LLMRT_INLINE void interleave(Vec& a, Vec& b) {
  const VecInt low =
      _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const VecInt high = addInt(low, splatInt(8));
  Vec first = _mm512_permutex2var_ps(a, low, b);
  b = _mm512_permutex2var_ps(a, high, b);
  a = first;
}

LLMRT_INLINE void deinterleave(Vec& a, Vec& b) {
  const VecInt even = shiftLeft<1>(laneIndex());
  const VecInt odd = addInt(even, splatInt(1));
  Vec first = _mm512_permutex2var_ps(a, even, b);
  b = _mm512_permutex2var_ps(a, odd, b);
  a = first;
}

#elif defined(__AVX2__)

inline constexpr int kLanes = 8;
inline constexpr int kTileRows = 6;
using Vec = __m256;
using VecInt = __m256i;

LLMRT_INLINE Vec splat(float x) { return _mm256_set1_ps(x); }

LLMRT_INLINE VecInt splatInt(int x) { return _mm256_set1_epi32(x); }

LLMRT_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }

LLMRT_INLINE Vec load(const BF16* p) {
  __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

LLMRT_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }

LLMRT_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }

LLMRT_INLINE Vec squareRoot(Vec a) { return _mm256_sqrt_ps(a); }

LLMRT_INLINE Vec vmax(Vec a, Vec b) { return _mm256_max_ps(a, b); }

LLMRT_INLINE Vec vmin(Vec a, Vec b) { return _mm256_min_ps(a, b); }

LLMRT_INLINE VecInt bits(Vec v) { return _mm256_castps_si256(v); }

LLMRT_INLINE Vec fromBits(VecInt v) { return _mm256_castsi256_ps(v); }

LLMRT_INLINE VecInt addInt(VecInt a, VecInt b) {
  return _mm256_add_epi32(a, b);
}

LLMRT_INLINE VecInt subInt(VecInt a, VecInt b) {
  return _mm256_sub_epi32(a, b);
}

LLMRT_INLINE VecInt andInt(VecInt a, VecInt b) {
  return _mm256_and_si256(a, b);
}

LLMRT_INLINE VecInt orInt(VecInt a, VecInt b) { return _mm256_or_si256(a, b); }

template <int count>
LLMRT_INLINE VecInt shiftLeft(VecInt a) {
  return _mm256_slli_epi32(a, count);
}

LLMRT_INLINE VecInt laneIndex() {
  return _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
}

LLMRT_INLINE Vec ifLess(Vec x, Vec y, Vec a, Vec b) {
  return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ));
}

LLMRT_INLINE Vec ifLessInt(VecInt x, VecInt y, Vec a, Vec b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(y, x)));
}

LLMRT_INLINE VecInt loadInt(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

LLMRT_INLINE void interleave(Vec& a, Vec& b) {
  Vec low = _mm256_unpacklo_ps(a, b); // 0 1 of each, then 4 5 of each
  Vec high = _mm256_unpackhi_ps(a, b);
  a = _mm256_permute2f128_ps(low, high, 0x20);
  b = _mm256_permute2f128_ps(low, high, 0x31);
}

LLMRT_INLINE void deinterleave(Vec& a, Vec& b) {
  Vec low = _mm256_permute2f128_ps(a, b, 0x20);
  Vec high = _mm256_permute2f128_ps(a, b, 0x31);
  a = _mm256_shuffle_ps(low, high, 0x88);
  b = _mm256_shuffle_ps(low, high, 0xDD);
}

#else

inline constexpr int kLanes = 4;
inline constexpr int kTileRows = 6;
using Vec = __m128;
using VecInt = __m128i;

LLMRT_INLINE Vec splat(float x) { return _mm_set1_ps(x); }

LLMRT_INLINE VecInt splatInt(int x) { return _mm_set1_epi32(x); }

LLMRT_INLINE Vec load(const float* p) { return _mm_loadu_ps(p); }

LLMRT_INLINE Vec load(const BF16* p) {
  __m128i half = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), half));
}

LLMRT_INLINE void store(float* p, Vec v) { _mm_storeu_ps(p, v); }

LLMRT_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return _mm_add_ps(_mm_mul_ps(a, b), c);
}

LLMRT_INLINE Vec squareRoot(Vec a) { return _mm_sqrt_ps(a); }

LLMRT_INLINE Vec vmax(Vec a, Vec b) { return _mm_max_ps(a, b); }

LLMRT_INLINE Vec vmin(Vec a, Vec b) { return _mm_min_ps(a, b); }

LLMRT_INLINE VecInt bits(Vec v) { return _mm_castps_si128(v); }

LLMRT_INLINE Vec fromBits(VecInt v) { return _mm_castsi128_ps(v); }

LLMRT_INLINE VecInt addInt(VecInt a, VecInt b) { return _mm_add_epi32(a, b); }

LLMRT_INLINE VecInt subInt(VecInt a, VecInt b) { return _mm_sub_epi32(a, b); }

LLMRT_INLINE VecInt andInt(VecInt a, VecInt b) { return _mm_and_si128(a, b); }

LLMRT_INLINE VecInt orInt(VecInt a, VecInt b) { return _mm_or_si128(a, b); }

template <int count>
LLMRT_INLINE VecInt shiftLeft(VecInt a) {
  return _mm_slli_epi32(a, count);
}

LLMRT_INLINE VecInt laneIndex() { return _mm_set_epi32(3, 2, 1, 0); }

LLMRT_INLINE VecInt loadInt(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

LLMRT_INLINE void interleave(Vec& a, Vec& b) {
  Vec first = _mm_unpacklo_ps(a, b);
  b = _mm_unpackhi_ps(a, b);
  a = first;
}

LLMRT_INLINE void deinterleave(Vec& a, Vec& b) {
  Vec first = _mm_shuffle_ps(a, b, 0x88);
  b = _mm_shuffle_ps(a, b, 0xDD);
  a = first;
}

LLMRT_INLINE Vec choose(__m128 mask, Vec a, Vec b) {
  return _mm_or_ps(_mm_and_ps(mask, a), _mm_andnot_ps(mask, b));
}

LLMRT_INLINE Vec ifLess(Vec x, Vec y, Vec a, Vec b) {
  return choose(_mm_cmplt_ps(x, y), a, b);
}

LLMRT_INLINE Vec ifLessInt(VecInt x, VecInt y, Vec a, Vec b) {
  return choose(_mm_castsi128_ps(_mm_cmplt_epi32(x, y)), a, b);
}

#endif

// Plus, minus, times and divided by are the compiler's own operators on Vec.

LLMRT_INLINE Vec zero() { return splat(0.0f); }

/// Loads two vectors of columns, in the order that costs least: f32 as they
/// lie, bf16 the even columns and then the odd ones (a shift and a mask instead
/// of two widenings).
LLMRT_INLINE void loadPair(const float* p, Vec& a, Vec& b) {
  a = load(p);
  b = load(p + kLanes);
}

LLMRT_INLINE void loadPair(const BF16* p, Vec& a, Vec& b) {
  VecInt both = loadInt(p);
  a = fromBits(shiftLeft<16>(both));
  b = fromBits(andInt(both, splatInt(static_cast<int>(0xFFFF0000u))));
}

/// Puts a pair into loadPair's order of W, and back into the order of columns.
LLMRT_INLINE void toPairOrder(const float*, Vec&, Vec&) {}

LLMRT_INLINE void toPairOrder(const BF16*, Vec& a, Vec& b) {
  deinterleave(a, b);
}

LLMRT_INLINE void fromPairOrder(const float*, Vec&, Vec&) {}

LLMRT_INLINE void fromPairOrder(const BF16*, Vec& a, Vec& b) {
  interleave(a, b);
}

/// Stores the first n lanes.
LLMRT_INLINE void storePart(float* p, Vec v, int64_t n) {
  if (n >= kLanes)
    return store(p, v);
  float lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < n; ++i)
    p[i] = lanes[i];
}

/// Adds the lanes in a fixed tree: halves onto each other, down to one.
LLMRT_INLINE float sumLanes(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      lanes[i] += lanes[i + half];
  return lanes[0];
}

LLMRT_INLINE float largestLane(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  return lanes[0];
}

} // namespace llmrt::LLMRT_LEVEL
