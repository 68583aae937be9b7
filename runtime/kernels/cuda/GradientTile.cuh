// SPDX-License-Identifier: Apache-2.0
// Tensor core products that linear_input_gradient and linear_weight_gradient
// share: tiles of 128 rows x 128 columns of the result, 32 terms of its sums at
// a time, two of these steps in shared memory. The second factor lies with the
// terms as rows ("turned"), the first factor with the terms as columns or as
// rows. Factors are rounded to bf16 (nearest even), sums are f32.
#pragma once

#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {

inline constexpr int kGradientSide = 128;
inline constexpr int kGradientDepth = 32; // terms of a step
inline constexpr int kGradientThreads = 256;
/// Elements between rows in shared memory: the eight rows of a matrix fragment
/// lie in different banks.
inline constexpr int kDirectStride = kGradientDepth + 8;
inline constexpr int kTurnedStride = kGradientSide + 8;
/// Rows x columns of one of the 2 x 4 warps, and its 16 x 8 products.
inline constexpr int kWarpRows = 64;
inline constexpr int kWarpCols = 32;
inline constexpr int kRowParts = kWarpRows / 16;
inline constexpr int kColParts = kWarpCols / 8;

using GradientSums = float[kRowParts][kColParts][4];

/// A factor in memory, [rows, ld].
template <typename T>
struct Factor {
  const T* data;
  int64_t ld;
  int64_t rows; // what lies beyond is 0
  int64_t cols;
  bool vectors; // four elements can be read together

  __device__ Factor(const void* from, int64_t stride, int64_t numRows,
                    int64_t numCols)
      : data(static_cast<const T*>(from)), ld(stride), rows(numRows),
        cols(numCols),
        vectors(stride % 4 == 0 && numCols % 4 == 0 && isAligned16(from)) {}
};

__device__ inline uint2 packFour(const float* x) {
  const uint4 raw = load16(x);
  return make_uint2(packBf16(floatOfBits(raw.x), floatOfBits(raw.y)),
                    packBf16(floatOfBits(raw.z), floatOfBits(raw.w)));
}

__device__ inline uint2 packFour(const BF16* x) {
  return *reinterpret_cast<const uint2*>(x);
}

/// A tile of a factor. Counted in 32 bits: fewer registers.
template <typename T>
struct FactorTile {
  const T* data;
  int ld;
  int rows; // from its first; none or fewer: all 0
  int cols;
  bool vectors;

  __device__ FactorTile(const Factor<T>& f, int64_t row, int64_t col)
      : data(f.data + row * f.ld + col), ld(static_cast<int>(f.ld)),
        rows(static_cast<int>(least(f.rows - row, kGradientSide))),
        cols(static_cast<int>(least(f.cols - col, kGradientSide))),
        vectors(f.vectors) {}

  /// Returns elements [col, col + 4) of a row as bf16.
  __device__ uint2 four(int row, int col) const {
    if (row >= rows || col >= cols)
      return make_uint2(0, 0);
    const T* from = data + (row * ld + col);
    if (vectors)
      return packFour(from);
    auto at = [&](int i) { return col + i < cols ? widen(from[i]) : 0.0f; };
    return make_uint2(packBf16(at(0), at(1)), packBf16(at(2), at(3)));
  }
};

/// The pieces of four elements that a thread moves of a tile of R rows x C
/// columns.
template <int R, int C>
struct Pieces {
  static constexpr int kCount = R * C / 4 / kGradientThreads;
  uint2 four[kCount];

  template <typename T>
  __device__ void load(const FactorTile<T>& tile) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int piece = i * kGradientThreads + threadIdx.x;
      four[i] = tile.four(piece / (C / 4), piece % (C / 4) * 4);
    }
  }

  __device__ void store(BF16* to) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int piece = i * kGradientThreads + threadIdx.x;
      *reinterpret_cast<uint2*>(to + piece / (C / 4) * (C + 8) +
                                piece % (C / 4) * 4) = four[i];
    }
  }
};

/// The warp's products over one step. `first` begins at its rows ([rows, terms]
/// or, turned, [terms, rows]), `second` ([terms, columns]) at its columns.
template <bool kFirstTurned>
__device__ inline void multiplyStep(const BF16* first, const BF16* second,
                                    int lane, GradientSums& sums) {
  // Matrices of the first factor: rows 0..7, 8..15, then the same at terms
  // 8..15. Of the second: terms 0..7, 8..15, then the same at columns 8..15.
  const BF16* firstRow =
      kFirstTurned ? first + (lane / 16 * 8 + lane % 8) * kTurnedStride +
                         lane / 8 % 2 * 8
                   : first + lane % 16 * kDirectStride + lane / 16 * 8;
  const BF16* secondRow = second + lane % 16 * kTurnedStride + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < kGradientDepth; k += 16) {
    uint32_t b[kColParts / 2][4];
#pragma unroll
    for (int n = 0; n < kColParts / 2; ++n)
      loadMatricesTransposed(secondRow + k * kTurnedStride + n * 16, b[n]);
#pragma unroll
    for (int m = 0; m < kRowParts; ++m) {
      uint32_t a[4];
      if constexpr (kFirstTurned)
        loadMatricesTransposed(firstRow + k * kTurnedStride + m * 16, a);
      else
        loadMatrices(firstRow + m * 16 * kDirectStride + k, a);
#pragma unroll
      for (int n = 0; n < kColParts; ++n)
        multiplyMatrices(sums[m][n], a, b[n / 2][n % 2 * 2],
                         b[n / 2][n % 2 * 2 + 1]);
    }
  }
}

/// Calls store(row, col, sum) for the elements of the warp's sums, counted in
/// the block's tile.
template <typename Store>
__device__ inline void forSums(const GradientSums& sums, int lane, int warp,
                               const Store& store) {
#pragma unroll
  for (int m = 0; m < kRowParts; ++m)
#pragma unroll
    for (int n = 0; n < kColParts; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        store(warp / 4 * kWarpRows + m * 16 + lane / 4 + i / 2 * 8,
              warp % 4 * kWarpCols + n * 8 + lane % 4 * 2 + i % 2,
              sums[m][n][i]);
}

/// The block's product: rows from `row` of the first factor, columns from
/// `col` of the second, over all `terms`.
template <bool kFirstTurned, typename A, typename B>
__device__ inline void
multiplyFactors(const Factor<A>& first, const Factor<B>& second, int64_t row,
                int64_t col, int64_t terms, GradientSums& sums) {
  constexpr int kFirstRows = kFirstTurned ? kGradientDepth : kGradientSide;
  constexpr int kFirstCols = kFirstTurned ? kGradientSide : kGradientDepth;
  __shared__ __align__(16) BF16 sharedFirst[2][kFirstRows * (kFirstCols + 8)];
  __shared__ __align__(16) BF16 sharedSecond[2][kGradientDepth * kTurnedStride];
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int warpRow = warp / 4 * kWarpRows, warpCol = warp % 4 * kWarpCols;
  Pieces<kFirstRows, kFirstCols> a;
  Pieces<kGradientDepth, kGradientSide> b;
  auto load = [&](int64_t k) {
    a.load(
        FactorTile<A>(first, kFirstTurned ? k : row, kFirstTurned ? row : k));
    b.load(FactorTile<B>(second, k, col));
  };
  load(0);
  a.store(sharedFirst[0]);
  b.store(sharedSecond[0]);
  __syncthreads();
  int current = 0;
  for (int64_t k = 0; k < terms; k += kGradientDepth) {
    const bool isMore = k + kGradientDepth < terms;
    if (isMore)
      load(k + kGradientDepth);
    multiplyStep<kFirstTurned>(
        sharedFirst[current] +
            (kFirstTurned ? warpRow : warpRow * kDirectStride),
        sharedSecond[current] + warpCol, lane, sums);
    if (isMore) {
      a.store(sharedFirst[1 - current]);
      b.store(sharedSecond[1 - current]);
    }
    __syncthreads();
    current = 1 - current;
  }
}

} // namespace llmrt::cuda
