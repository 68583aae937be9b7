// SPDX-License-Identifier: Apache-2.0
// rope on CUDA: one block turns four heads of a row, a warp each.
//
// Constraints  rotary even, at most D. A row at position -1 is copied. out may
// be x. Scratch  none.
#include "runtime/kernels/cuda/RotateHead.cuh"

LLMRT_CUDA_ENTRY(rope, 128) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::RopeArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t row = tile.rowBegin;
  const int64_t head = tile.colBegin + threadIdx.x / kWarpLanes;
  if (row >= a.rows || head >= a.heads)
    return;
  rotateHead(a.x + row * a.ldx + head * a.D, a.table, a.positions[row], a.D,
             a.rotary, a.style, a.out + row * a.ldo + head * a.D,
             threadIdx.x % kWarpLanes, kWarpLanes, a.inverse ? -1.0f : 1.0f);
}
