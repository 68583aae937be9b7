// SPDX-License-Identifier: Apache-2.0
// Transposes blocks of f32 or bf16 into f32, in squares of one vector's lanes.
// For kernel sources only.
#pragma once

#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

#if defined(__AVX512F__)

LLMRT_INLINE Vec unpackLow(Vec a, Vec b) { return _mm512_unpacklo_ps(a, b); }

LLMRT_INLINE Vec unpackHigh(Vec a, Vec b) { return _mm512_unpackhi_ps(a, b); }

LLMRT_INLINE Vec pairsLow(Vec a, Vec b) {
  return _mm512_castpd_ps(
      _mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

LLMRT_INLINE Vec pairsHigh(Vec a, Vec b) {
  return _mm512_castpd_ps(
      _mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

// Brings quarters of four vectors together: v[4 q + j] holds, in quarter l,
// column 4 l + j of rows 4 q to 4 q + 3.
LLMRT_INLINE void gatherQuarters(Vec* v) {
  Vec out[16];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    Vec even0 = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x88);
    Vec odd0 = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xDD);
    Vec even1 = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x88);
    Vec odd1 = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xDD);
    out[j] = _mm512_shuffle_f32x4(even0, even1, 0x88);
    out[4 + j] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    out[8 + j] = _mm512_shuffle_f32x4(even0, even1, 0xDD);
    out[12 + j] = _mm512_shuffle_f32x4(odd0, odd1, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    v[i] = out[i];
}

#elif defined(__AVX2__)

LLMRT_INLINE Vec unpackLow(Vec a, Vec b) { return _mm256_unpacklo_ps(a, b); }

LLMRT_INLINE Vec unpackHigh(Vec a, Vec b) { return _mm256_unpackhi_ps(a, b); }

LLMRT_INLINE Vec pairsLow(Vec a, Vec b) {
  return _mm256_castpd_ps(
      _mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

LLMRT_INLINE Vec pairsHigh(Vec a, Vec b) {
  return _mm256_castpd_ps(
      _mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}

LLMRT_INLINE void gatherQuarters(Vec* v) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    Vec low = _mm256_permute2f128_ps(v[j], v[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x31);
    v[j] = low;
  }
}

#else

LLMRT_INLINE Vec unpackLow(Vec a, Vec b) { return _mm_unpacklo_ps(a, b); }

LLMRT_INLINE Vec unpackHigh(Vec a, Vec b) { return _mm_unpackhi_ps(a, b); }

LLMRT_INLINE Vec pairsLow(Vec a, Vec b) { return _mm_movelh_ps(a, b); }

LLMRT_INLINE Vec pairsHigh(Vec a, Vec b) { return _mm_movehl_ps(b, a); }

LLMRT_INLINE void gatherQuarters(Vec*) {}

#endif

/// out[j * outStride + i] = in[i * inStride + j] for i, j < kLanes.
template <typename T>
LLMRT_INLINE void transposeSquare(const T* in, int64_t inStride, float* out,
                                  int64_t outStride) {
  Vec v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    v[i] = load(in + i * inStride);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
    Vec a = unpackLow(v[i], v[i + 1]), b = unpackHigh(v[i], v[i + 1]);
    Vec c = unpackLow(v[i + 2], v[i + 3]), d = unpackHigh(v[i + 2], v[i + 3]);
    v[i] = pairsLow(a, c);
    v[i + 1] = pairsHigh(a, c);
    v[i + 2] = pairsLow(b, d);
    v[i + 3] = pairsHigh(b, d);
  }
  gatherQuarters(v);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    store(out + i * outStride, v[i]);
}

/// out[j * outStride + i] = in[i * inStride + j] for i < rows, j < cols.
template <typename T>
void transposeBlock(const T* in, int64_t rows, int64_t cols, int64_t inStride,
                    float* out, int64_t outStride) {
  for (int64_t i = 0; i < rows; i += kLanes)
    for (int64_t j = 0; j < cols; j += kLanes) {
      if (i + kLanes <= rows && j + kLanes <= cols) {
        transposeSquare(in + i * inStride + j, inStride,
                        out + j * outStride + i, outStride);
        continue;
      }
      for (int64_t r = i; r < least(i + kLanes, rows); ++r)
        for (int64_t c = j; c < least(j + kLanes, cols); ++c)
          out[c * outStride + r] = widen(in[r * inStride + c]);
    }
}

} // namespace llmrt::LLMRT_LEVEL
