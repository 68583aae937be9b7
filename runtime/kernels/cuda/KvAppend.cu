// SPDX-License-Identifier: Apache-2.0
// kv_append on CUDA: one block writes four heads of a row, a warp each. Keys
// and values lie alike, so that kind changes nothing.
//
// Constraints  dtype f32 or bf16 (rounded to nearest even); no two rows of one
// sequence at one position; rows at position -1 write nothing.    Scratch none.
#include "runtime/kernels/cuda/CachePages.cuh"

LLMRT_CUDA_ENTRY(kv_append, 128) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::KvAppendArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t row = tile.rowBegin;
  const int64_t head = tile.colBegin + threadIdx.x / kWarpLanes;
  if (row >= a.rows || head >= a.KV || a.positions[row] < 0)
    return;
  const float* x = a.x + row * a.ldx + head * a.D;
  const int lane = threadIdx.x % kWarpLanes;
  if (isBf16(a.dtype))
    writeToken(x, a.D,
               cacheToken<BF16>(a.cache, a.blockTable, a.pages, row / a.R,
                                a.positions[row], a.KV, a.D, head),
               lane, kWarpLanes);
  else
    writeToken(x, a.D,
               cacheToken<float>(a.cache, a.blockTable, a.pages, row / a.R,
                                 a.positions[row], a.KV, a.D, head),
               lane, kWarpLanes);
}
