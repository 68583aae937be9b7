// SPDX-License-Identifier: Apache-2.0
// Plain f32 products that the f32 forms of linear_input_gradient and
// linear_weight_gradient share, for parity: tiles of 64 rows x 64 columns of
// the result, 16 terms of its sums at a time; each thread owns 4 x 4 sums.
#pragma once

#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {

inline constexpr int kPlainSide = 64;
inline constexpr int kPlainDepth = 16;
inline constexpr int kPlainStride = kPlainSide + 4;

/// A factor in memory, [rows, ld]; what lies beyond its rows and columns is 0.
struct PlainFactor {
  const float* data;
  int64_t ld;
  int64_t rows;
  int64_t cols;

  __device__ float at(int64_t row, int64_t col) const {
    return row < rows && col < cols ? data[row * ld + col] : 0.0f;
  }
};

using PlainSums = float[4][4];

// to[term][side], from a factor whose terms are its rows (turned) or columns.
template <bool kTurned>
__device__ inline void loadPlain(const PlainFactor& f, int64_t side,
                                 int64_t term, float* to) {
#pragma unroll
  for (int i = 0; i < kPlainSide * kPlainDepth / 256; ++i) {
    const int e = i * 256 + threadIdx.x;
    const int s = kTurned ? e % kPlainSide : e / kPlainDepth;
    const int t = kTurned ? e / kPlainSide : e % kPlainDepth;
    to[t * kPlainStride + s] =
        kTurned ? f.at(term + t, side + s) : f.at(side + s, term + t);
  }
}

/// The block's product; the second factor is turned. Terms are added in
/// ascending order.
template <bool kFirstTurned>
__device__ inline void
multiplyPlain(const PlainFactor& first, const PlainFactor& second, int64_t row,
              int64_t col, int64_t terms, PlainSums& sums) {
  __shared__ __align__(16) float a[kPlainDepth * kPlainStride];
  __shared__ __align__(16) float b[kPlainDepth * kPlainStride];
  const int r = threadIdx.x / 16 * 4, c = threadIdx.x % 16 * 4;
  for (int64_t k = 0; k < terms; k += kPlainDepth) {
    loadPlain<kFirstTurned>(first, row, k, a);
    loadPlain<true>(second, col, k, b);
    __syncthreads();
#pragma unroll
    for (int t = 0; t < kPlainDepth; ++t)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sums[i][j] = fmaf(a[t * kPlainStride + r + i],
                            b[t * kPlainStride + c + j], sums[i][j]);
    __syncthreads();
  }
}

/// Calls store(row, col, sum) for the thread's sums, counted in the block's
/// tile.
template <typename Store>
__device__ inline void forPlainSums(const PlainSums& sums, const Store& store) {
  const int r = threadIdx.x / 16 * 4, c = threadIdx.x % 16 * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      store(r + i, c + j, sums[i][j]);
}

} // namespace llmrt::cuda
