// SPDX-License-Identifier: Apache-2.0
// Turns one head by a rotary position embedding: the step that `rope` and
// `rope_append` share on CUDA (RotateHead.h does on cpu).
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// Turns the first `rotary` elements of a head by the angles of `position` and
/// copies the others, by `lanes` threads of which this is number `lane`; each
/// pair is read before it is written, so out may be x. A position of -1 copies.
/// direction -1 turns back. out: a pointer, or a token of a cache.
template <typename Out>
__device__ inline void rotateHead(const float* x, const float* table,
                                  int64_t position, int64_t D, int64_t rotary,
                                  int64_t style, const Out& out, int lane,
                                  int lanes, float direction = 1.0f) {
  const int half = static_cast<int>(rotary) / 2, end = static_cast<int>(D);
  const int turned = position < 0 ? 0 : half;
  const float* cosines = table + (position < 0 ? 0 : position) * 2 * half;
  const float* sines = cosines + half;
  // Elements of pair i lie at i * step and i * step + apart.
  const int step = style == 0 ? 1 : 2;
  const int apart = style == 0 ? half : 1;
  for (int i = lane; i < turned; i += lanes) {
    const float x0 = x[i * step];
    const float x1 = x[i * step + apart];
    const float cosine = cosines[i];
    const float sine = sines[i] * direction;
    narrowTo(fmaf(x0, cosine, -(x1 * sine)), out + i * step);
    narrowTo(fmaf(x1, cosine, x0 * sine), out + (i * step + apart));
  }
  for (int i = 2 * turned + lane; i < end; i += lanes)
    narrowTo(x[i], out + i);
}

} // namespace llmrt::cuda
