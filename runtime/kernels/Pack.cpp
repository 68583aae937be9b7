// SPDX-License-Identifier: Apache-2.0
// Weights from rows to panels: blocks of rows are converted into a small buffer and
// written transposed. Compiled once: SSE2 is enough to keep up with memory.
#include "runtime/kernels/Pack.h"

#include <algorithm>
#include <cstring>
#include <emmintrin.h>

namespace llmrt {
namespace {

/// Reduction elements transposed at a time: one cache line of f32 rows.
constexpr int64_t kBlock = 16;

uint16_t toBf16(float x) {
  uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if ((bits & 0x7FFFFFFF) > 0x7F800000)
    return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void convert(const float* in, int64_t count, float* out) {
  std::memcpy(out, in, count * sizeof(float));
}

void convert(const uint16_t* in, int64_t count, uint16_t* out) {
  std::memcpy(out, in, count * sizeof(uint16_t));
}

void convert(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i)
    out[i] = toBf16(in[i]);
}

void convert(const uint16_t* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i)
    out[i] = __builtin_bit_cast(float, static_cast<uint32_t>(in[i]) << 16);
}

// Writes a 4 x 4 square of rows transposed. in [4, kBlock], out [4, outStride].
void transposeSquare(const float* in, float* out, int64_t outStride) {
  __m128 a = _mm_loadu_ps(in);
  __m128 b = _mm_loadu_ps(in + kBlock);
  __m128 c = _mm_loadu_ps(in + 2 * kBlock);
  __m128 d = _mm_loadu_ps(in + 3 * kBlock);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(out, a);
  _mm_storeu_ps(out + outStride, b);
  _mm_storeu_ps(out + 2 * outStride, c);
  _mm_storeu_ps(out + 3 * outStride, d);
}

// The same for an 8 x 8 square of 16-bit elements.
void transposeSquare(const uint16_t* in, uint16_t* out, int64_t outStride) {
  __m128i r[8], s[8];
  for (int i = 0; i < 8; ++i)
    r[i] = _mm_loadu_si128(
        reinterpret_cast<const __m128i*>(in + i * kBlock));
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = _mm_unpacklo_epi16(r[i], r[i + 4]);
    s[2 * i + 1] = _mm_unpackhi_epi16(r[i], r[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    r[2 * i] = _mm_unpacklo_epi16(s[i], s[i + 4]);
    r[2 * i + 1] = _mm_unpackhi_epi16(s[i], s[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = _mm_unpacklo_epi16(r[i], r[i + 4]);
    s[2 * i + 1] = _mm_unpackhi_epi16(r[i], r[i + 4]);
  }
  for (int i = 0; i < 8; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * outStride), s[i]);
}

template <typename S, typename W>
void pack(const PackPanelsArgs& args) {
  constexpr int64_t P = kPanelBytes / sizeof(W);
  constexpr int64_t square = 16 / sizeof(W);
  const S* source = static_cast<const S*>(args.source);
  alignas(64) W rows[P * kBlock];
  for (int64_t panel = args.panelBegin; panel < args.panelEnd; ++panel) {
    W* out = static_cast<W*>(args.panels) + panel * args.K * P;
    int64_t valid = std::clamp<int64_t>(args.N - panel * P, 0, P);
    std::memset(rows, 0, sizeof(rows));
    for (int64_t k = 0; k < args.K; k += kBlock) {
      int64_t count = std::min(kBlock, args.K - k);
      for (int64_t n = 0; n < valid; ++n)
        convert(source + (panel * P + n) * args.rowStride + k, count,
                rows + n * kBlock);
      if (count == kBlock) {
        for (int64_t i = 0; i < kBlock; i += square)
          for (int64_t n = 0; n < P; n += square)
            transposeSquare(rows + n * kBlock + i, out + (k + i) * P + n, P);
        continue;
      }
      for (int64_t i = 0; i < count; ++i)
        for (int64_t n = 0; n < P; ++n)
          out[(k + i) * P + n] = rows[n * kBlock + i];
    }
  }
}

} // namespace

void packPanels(const PackPanelsArgs& args) {
  const bool fromFloat = args.sourceDtype == DType::F32;
  if (args.panelDtype == DType::F32)
    return fromFloat ? pack<float, float>(args) : pack<uint16_t, float>(args);
  return fromFloat ? pack<float, uint16_t>(args)
                   : pack<uint16_t, uint16_t>(args);
}

} // namespace llmrt
