// SPDX-License-Identifier: Apache-2.0
// Products of more than 16 rows with f32 weights, shared by `linear` and
// `fused_linear`: the form that parity tests use. Plain f32 products over tiles
// of 64 rows x 64 outputs x 16 elements of K; each thread owns 4 x 4 sums.
// `Rows` are arguments with rows, x, ldx and K.
#pragma once

#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {

inline constexpr int kPlainRowsSide = 64;
inline constexpr int kPlainRowsDepth = 16;
inline constexpr int kPlainRowsStride = kPlainRowsSide + 4;

// Turns rows [first, first + kPlainRowsSide) of a matrix at columns [k, k +
// kPlainRowsDepth) into to[k][row].
__device__ inline void loadTurned(const float* from, int64_t first,
                                  int64_t count, int64_t ld, int64_t k,
                                  int64_t K, float* to) {
#pragma unroll
  for (int i = 0; i < kPlainRowsSide * kPlainRowsDepth / 256; ++i) {
    const int element = i * 256 + threadIdx.x;
    const int row = element / kPlainRowsDepth,
              depth = element % kPlainRowsDepth;
    to[depth * kPlainRowsStride + row] =
        first + row < count && k + depth < K
            ? from[(first + row) * ld + k + depth]
            : 0.0f;
  }
}

/// Calls store(row, column, sum) for the elements of the block's tile that are
/// valid: rows from `row`, the columns of `tile`.
template <typename Rows, typename Store>
__device__ inline void multiplyManyRowsF32(const Rows& a,
                                           const WeightTile& tile,
                                           int64_t first, const Store& store) {
  __shared__ __align__(16) float x[kPlainRowsDepth * kPlainRowsStride];
  __shared__ __align__(16) float w[kPlainRowsDepth * kPlainRowsStride];
  const int row = threadIdx.x / 16 * 4, col = threadIdx.x % 16 * 4;
  float sum[4][4] = {};
  for (int64_t k = 0; k < a.K; k += kPlainRowsDepth) {
    loadTurned(a.x, first, a.rows, a.ldx, k, a.K, x);
    loadTurned(static_cast<const float*>(tile.w), tile.col, tile.N, a.K, k, a.K,
               w);
    __syncthreads();
#pragma unroll
    for (int depth = 0; depth < kPlainRowsDepth; ++depth)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sum[i][j] = fmaf(x[depth * kPlainRowsStride + row + i],
                           w[depth * kPlainRowsStride + col + j], sum[i][j]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t r = first + row + i, c = tile.col + col + j;
      if (r < a.rows && c < tile.N)
        store(r, c, sum[i][j]);
    }
}

} // namespace llmrt::cuda
