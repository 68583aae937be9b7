// SPDX-License-Identifier: Apache-2.0
// Rows of heads rounded to bf16 in the scratch of a launch, by a launch before
// it: what attention_rows and attention_gradient on sm_90a copy to shared
// memory without passing registers, as often as blocks need it.
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// Elements of a rounded head: those behind D are zeros.
__device__ inline int64_t roundedHead(int64_t D) { return roundUp(D, 8); }

/// Lane i of a warp reads elements 8 i and on of D (at most 256), zeros behind
/// them.
__device__ inline void readEight(const float* x, int64_t D, int lane,
                                 float (&eight)[8]) {
  const int64_t d = lane * 8;
  if (d + 8 <= D && isAligned16(x)) {
    widenVector(load16(x + d), x, eight);
    widenVector(load16(x + d + 4), x, eight + 4);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    eight[i] = d + i < D ? x[d + i] : 0.0f;
}

/// Writes them, rounded (nearest even), as head `head` of `heads` of row `row`.
__device__ inline void writeEight(const float (&eight)[8], int64_t D,
                                  int64_t row, int64_t heads, int64_t head,
                                  int lane, BF16* to) {
  if (lane * 8 >= D)
    return;
  to += (row * heads + head) * roundedHead(D) + lane * 8;
  *reinterpret_cast<uint4*>(to) =
      make_uint4(packBf16(eight[0], eight[1]), packBf16(eight[2], eight[3]),
                 packBf16(eight[4], eight[5]), packBf16(eight[6], eight[7]));
}

/// Rounds the heads of a row, a warp each.
__device__ inline void roundHeads(const float* x, int64_t D, int64_t row,
                                  int64_t heads, BF16* to) {
  const int lane = threadIdx.x % kWarpLanes;
  for (int64_t head = threadIdx.x / kWarpLanes; head < heads;
       head += blockDim.x / kWarpLanes) {
    float eight[8];
    readEight(x + head * D, D, lane, eight);
    writeEight(eight, D, row, heads, head, lane, to);
  }
}

} // namespace llmrt::cuda
