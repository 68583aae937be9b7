// SPDX-License-Identifier: Apache-2.0
// linear on CUDA for more than 16 rows and f32 weights: the form that parity
// tests use. Plain f32 products over tiles of 64 rows x 64 outputs x 16
// elements of K; each thread owns 4 x 4 sums.
//
// Constraints  dtype f32; layout RowMajor; no slots.    Scratch  none.
#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kSide = 64;
constexpr int kDepth = 16;
constexpr int kStride = kSide + 4;

// Turns rows [first, first + kSide) of a matrix at columns [k, k + kDepth) into
// to[k][row].
__device__ inline void loadTurned(const float* from, int64_t first,
                                  int64_t count, int64_t ld, int64_t k,
                                  int64_t K, float* to) {
#pragma unroll
  for (int i = 0; i < kSide * kDepth / 256; ++i) {
    const int element = i * 256 + threadIdx.x;
    const int row = element / kDepth, depth = element % kDepth;
    to[depth * kStride + row] = first + row < count && k + depth < K
                                    ? from[(first + row) * ld + k + depth]
                                    : 0.0f;
  }
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_f32, 256) {
  using namespace llmrt::cuda;
  __shared__ __align__(16) float x[kDepth * kStride];
  __shared__ __align__(16) float w[kDepth * kStride];
  const auto& a = argsOf<llmrt::LinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  const WeightTile tile = weightTileAt(a, grid.colBegin, colTile);
  if (grid.rowBegin >= a.rows || tile.N == 0)
    return;
  const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
  float sum[4][4] = {};
  for (int64_t k = 0; k < a.K; k += kDepth) {
    loadTurned(a.x, grid.rowBegin, a.rows, a.ldx, k, a.K, x);
    loadTurned(static_cast<const float*>(tile.w), tile.col, tile.N, a.K, k, a.K,
               w);
    __syncthreads();
#pragma unroll
    for (int depth = 0; depth < kDepth; ++depth)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sum[i][j] = fmaf(x[depth * kStride + row + i],
                           w[depth * kStride + col + j], sum[i][j]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t r = grid.rowBegin + row + i, c = tile.col + col + j;
      if (r < a.rows && c < tile.N)
        tile.y[r * tile.ldy + c] = sum[i][j];
    }
}
