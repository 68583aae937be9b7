// SPDX-License-Identifier: Apache-2.0
// Tensor core products of many rows with rows of weights, which the forms of
// `linear`, `fused_linear` and `linear_quantized` share: a tile of 128 rows x
// 128 outputs x 32 elements of K in shared memory, both factors in bf16; 2 x 4
// warps.
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

inline constexpr int kTileRows = 128;
inline constexpr int kTileCols = 128;
inline constexpr int kTileK = 32;
/// Elements between rows in shared memory: 80 bytes, so that the eight rows of
/// a matrix fragment lie in different banks.
inline constexpr int kStride = kTileK + 8;
inline constexpr int kThreads = 256;
/// Rows x outputs of one of the 2 x 4 warps, and its 16 x 8 products.
inline constexpr int kWarpRows = 64;
inline constexpr int kWarpCols = 32;
inline constexpr int kRowParts = kWarpRows / 16;
inline constexpr int kColParts = kWarpCols / 8;
/// Rows g and g + 8 (g = lane / 4), columns 2 (lane % 4) and the next, of each
/// of the warp's products.
using Sums = float[kRowParts][kColParts][4];

/// The warp's products over one tile of K. x and w begin at its rows and
/// outputs.
__device__ inline void multiplyTile(const BF16* x, const BF16* w, int lane,
                                    Sums& sums) {
  // Matrices of x: rows 0..7, 8..15, then the same at columns 8..15. Of w, as
  // columns of the second factor: outputs 0..7 at k 0..7 and 8..15, then
  // outputs 8..15.
  const BF16* xRow = x + lane % 16 * kStride + lane / 16 * 8;
  const BF16* wRow =
      w + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < kTileK; k += 16) {
    uint32_t second[kColParts / 2][4];
#pragma unroll
    for (int n = 0; n < kColParts / 2; ++n)
      loadMatrices(wRow + n * 16 * kStride + k, second[n]);
#pragma unroll
    for (int m = 0; m < kRowParts; ++m) {
      uint32_t first[4];
      loadMatrices(xRow + m * 16 * kStride + k, first);
#pragma unroll
      for (int n = 0; n < kColParts; ++n)
        multiplyMatrices(sums[m][n], first, second[n / 2][n % 2 * 2],
                         second[n / 2][n % 2 * 2 + 1]);
    }
  }
}

/// Calls store(row, column, sum) for the warp's sums, which begin at (row,
/// col), as far as there are rows and outputs.
template <typename Store>
__device__ inline void storeSums(const Sums& sums, int64_t row, int64_t col,
                                 int64_t numRows, int64_t numOutputs,
                                 const Store& store) {
  const int lane = threadIdx.x % kWarpLanes;
#pragma unroll
  for (int m = 0; m < kRowParts; ++m)
#pragma unroll
    for (int n = 0; n < kColParts; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t r = row + m * 16 + lane / 4 + i / 2 * 8;
        const int64_t c = col + n * 8 + lane % 4 * 2 + i % 2;
        if (r < numRows && c < numOutputs)
          store(r, c, sums[m][n][i]);
      }
}

} // namespace llmrt::cuda
