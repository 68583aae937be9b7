// SPDX-License-Identifier: Apache-2.0
// rope_append on CUDA: one block works on four columns of a row, a warp each.
// Columns are the H query heads, then the KV key/value heads.
//
// Constraints  those of rope and kv_append; qOut may be q; k and v are not
// written. Scratch  none.
#include "runtime/kernels/cuda/CachePages.cuh"
#include "runtime/kernels/cuda/RotateHead.cuh"

namespace llmrt::cuda {

template <typename T>
__device__ void appendHead(const RopeAppendArgs& a, int64_t row, int64_t head,
                           int lane) {
  const int64_t position = a.positions[row];
  const int64_t sequence = row / a.R;
  rotateHead(a.k + row * a.ldk + head * a.D, a.table, position, a.D, a.rotary,
             a.style,
             cacheToken<T>(a.keyCache, a.blockTable, a.pages, sequence,
                           position, a.KV, a.D, head),
             lane, kWarpLanes);
  writeToken(a.v + row * a.ldv + head * a.D, a.D,
             cacheToken<T>(a.valueCache, a.blockTable, a.pages, sequence,
                           position, a.KV, a.D, head),
             lane, kWarpLanes);
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(rope_append, 128) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::RopeAppendArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t row = tile.rowBegin;
  const int64_t col = tile.colBegin + threadIdx.x / kWarpLanes;
  const int lane = threadIdx.x % kWarpLanes;
  if (row >= a.rows || col >= a.H + a.KV)
    return;
  if (col < a.H) {
    rotateHead(a.q + row * a.ldq + col * a.D, a.table, a.positions[row], a.D,
               a.rotary, a.style, a.qOut + row * a.ldo + col * a.D, lane,
               kWarpLanes);
    return;
  }
  if (a.positions[row] < 0)
    return;
  if (isBf16(a.dtype))
    appendHead<BF16>(a, row, col - a.H, lane);
  else
    appendHead<float>(a, row, col - a.H, lane);
}
