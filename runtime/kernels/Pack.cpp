// SPDX-License-Identifier: Apache-2.0
// Weights from rows to panels: blocks of rows are converted into a small buffer
// and written transposed. Compiled once: SSE2 is enough to keep up with memory.
#include "runtime/kernels/Pack.h"

#include <algorithm>
#include <cstring>
#include <emmintrin.h>

namespace llmrt {
namespace {

/// Reduction elements transposed at a time: some cache lines of each row, so
/// that rows a multiple of 4 KiB apart, which share a cache set, are not
/// fetched twice.
constexpr int64_t kBlock = 64;
/// Elements ahead in each row that are fetched meanwhile.
constexpr int64_t kPrefetchAhead = kBlock;

uint16_t toBf16(float x) {
  uint32_t bits = __builtin_bit_cast(uint32_t, x);
  uint32_t quiet = bits >> 16 | 0x40;
  uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  bool isNan = (bits & 0x7FFFFFFF) > 0x7F800000;
  return static_cast<uint16_t>(isNan ? quiet : rounded);
}

void convert(float in, float& out) { out = in; }

void convert(uint16_t in, uint16_t& out) { out = in; }

void convert(float in, uint16_t& out) { out = toBf16(in); }

void convert(uint16_t in, float& out) {
  out = __builtin_bit_cast(float, static_cast<uint32_t>(in) << 16);
}

template <typename S, typename W>
void convertRow(const S* in, int64_t count, W* out) {
  for (int64_t i = 0; i < count; ++i)
    convert(in[i], out[i]);
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
    r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i * kBlock));
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

// Writes past the caches: a weight is not read again soon, and its lines need
// not be fetched to be overwritten.
void writeAround(const void* in, int64_t bytes, void* out) {
  if (reinterpret_cast<uintptr_t>(out) % 16 != 0) {
    std::memcpy(out, in, bytes);
    return;
  }
  auto* from = static_cast<const __m128i*>(in);
  auto* to = static_cast<__m128i*>(out);
  for (int64_t i = 0; i < bytes / 16; ++i)
    _mm_stream_si128(to + i, _mm_load_si128(from + i));
}

template <typename S, typename W>
void pack(const PackPanelsArgs& args) {
  constexpr int64_t P = kPanelBytes / sizeof(W);
  constexpr int64_t square = 16 / sizeof(W);
  const S* source = static_cast<const S*>(args.source);
  alignas(64) W rows[P * kBlock];
  alignas(64) W turned[kBlock * P];
  for (int64_t panel = args.panelBegin; panel < args.panelEnd; ++panel) {
    W* out = static_cast<W*>(args.panels) + panel * args.K * P;
    int64_t valid = std::clamp<int64_t>(args.N - panel * P, 0, P);
    std::memset(rows, 0, sizeof(rows));
    for (int64_t k = 0; k < args.K; k += kBlock) {
      int64_t count = std::min(kBlock, args.K - k);
      const S* in = source + panel * P * args.rowStride + k;
      if (count == kBlock) {
        for (int64_t n = 0; n < valid; ++n, in += args.rowStride) {
          for (int64_t i = 0; i < kBlock; i += 64 / sizeof(S))
            _mm_prefetch(in + kPrefetchAhead + i, _MM_HINT_T0);
          convertRow(in, kBlock, rows + n * kBlock);
        }
        for (int64_t i = 0; i < kBlock; i += square)
          for (int64_t n = 0; n < P; n += square)
            transposeSquare(rows + n * kBlock + i, turned + i * P + n, P);
        writeAround(turned, sizeof(turned), out + k * P);
        continue;
      }
      for (int64_t n = 0; n < valid; ++n, in += args.rowStride)
        convertRow(in, count, rows + n * kBlock);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t n = 0; n < P; ++n)
          out[(k + i) * P + n] = rows[n * kBlock + i];
    }
  }
  _mm_sfence();
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
