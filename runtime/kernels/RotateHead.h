// SPDX-License-Identifier: Apache-2.0
// Turns one head by a rotary position embedding: the step that `rope` and
// `rope_append` share, so that they agree to the bit. For kernel sources only.
#pragma once

#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

/// out = x with its first `rotary` elements turned by the angles of `position`:
/// with c and s the pair's cosine and sine, fma(x0, c, -(x1 s)) and fma(x1, c,
/// x0 s). A position of -1 copies. out may be x. direction -1 turns back: the
/// sine's sign changes.
inline void rotateHead(const float* x, const float* table, int64_t position,
                       int64_t D, int64_t rotary, int64_t style, float* out,
                       float direction = 1.0f) {
  const int64_t half = rotary / 2;
  const int64_t turned = position < 0 ? 0 : 2 * half;
  const float* cosines = table + position * 2 * half;
  const float* sines = cosines + half;
  // Elements of pair i lie at i * step and i * step + apart.
  const int64_t step = style == 0 ? 1 : 2;
  const int64_t apart = style == 0 ? half : 1;
  for (int64_t i = 0; i < turned / 2; ++i) {
    float x0 = x[i * step];
    float x1 = x[i * step + apart];
    float sine = sines[i] * direction;
    float minus = -(x1 * sine);
    float plus = x0 * sine;
#ifdef __FMA__
    out[i * step] = __builtin_fmaf(x0, cosines[i], minus);
    out[i * step + apart] = __builtin_fmaf(x1, cosines[i], plus);
#else
    out[i * step] = x0 * cosines[i] + minus;
    out[i * step + apart] = x1 * cosines[i] + plus;
#endif
  }
  for (int64_t i = turned; i < D; ++i)
    out[i] = x[i];
}

} // namespace llmrt::LLMRT_LEVEL
