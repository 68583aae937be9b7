// SPDX-License-Identifier: Apache-2.0
// Products of more than 16 rows with bf16 weights, shared by `linear` and
// `fused_linear`: tensor cores over tiles of 128 rows x 128 outputs x 32
// elements of K, two of them in shared memory; x is rounded to bf16 (nearest
// even), sums are f32. `Rows` are arguments with rows, x, ldx and K.
#pragma once

#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {

inline constexpr int kManyRows = 128;
inline constexpr int kManyCols = 128;
inline constexpr int kManyDepth = 32;
/// Elements between rows in shared memory: 80 bytes, so that the eight rows of
/// a matrix fragment lie in different banks.
inline constexpr int kManyStride = kManyDepth + 8;
inline constexpr int kManyThreads = 256;
/// Rows x outputs of one of the 2 x 4 warps, and its 16 x 8 products.
inline constexpr int kManyWarpRows = 64;
inline constexpr int kManyWarpCols = 32;
inline constexpr int kManyRowParts = kManyWarpRows / 16;
inline constexpr int kManyColParts = kManyWarpCols / 8;
/// 16-byte pieces that a thread moves for each tile of x (f32) and of the
/// weight.
inline constexpr int kManyPiecesX = kManyRows * kManyDepth / 4 / kManyThreads;
inline constexpr int kManyPiecesW = kManyCols * kManyDepth / 8 / kManyThreads;

/// The tiles of one step in K, on their way to shared memory.
struct ManyRowPieces {
  float x[kManyPiecesX][4];
  uint4 w[kManyPiecesW];
};

template <typename Rows>
__device__ inline void loadX(const Rows& a, int64_t row, int64_t k,
                             bool vectors, float (&out)[4]) {
  const float* x = a.x + row * a.ldx + k;
  if (row >= a.rows || k >= a.K) {
    out[0] = out[1] = out[2] = out[3] = 0.0f;
    return;
  }
  if (vectors)
    return widenVector(load16(x), x, out);
#pragma unroll
  for (int i = 0; i < 4; ++i)
    out[i] = k + i < a.K ? x[i] : 0.0f;
}

__device__ inline uint4 loadW(const WeightTile& tile, int64_t K, int64_t n,
                              int64_t k, bool vectors) {
  const BF16* w = static_cast<const BF16*>(tile.w) + n * K + k;
  if (n >= tile.N || k >= K)
    return make_uint4(0, 0, 0, 0);
  if (vectors)
    return load16(w);
  auto pair = [&](int i) {
    uint32_t low = k + i < K ? w[i].bits : 0u;
    uint32_t high = k + i + 1 < K ? w[i + 1].bits : 0u;
    return low | high << 16;
  };
  return make_uint4(pair(0), pair(2), pair(4), pair(6));
}

template <typename Rows>
__device__ inline void loadPieces(const Rows& a, const WeightTile& tile,
                                  int64_t row, int64_t k, bool vectors,
                                  ManyRowPieces& pieces) {
#pragma unroll
  for (int i = 0; i < kManyPiecesX; ++i) {
    const int piece = i * kManyThreads + threadIdx.x;
    loadX(a, row + piece / (kManyDepth / 4), k + piece % (kManyDepth / 4) * 4,
          vectors, pieces.x[i]);
  }
#pragma unroll
  for (int i = 0; i < kManyPiecesW; ++i) {
    const int piece = i * kManyThreads + threadIdx.x;
    pieces.w[i] = loadW(tile, a.K, tile.col + piece / (kManyDepth / 8),
                        k + piece % (kManyDepth / 8) * 8, vectors);
  }
}

__device__ inline void storePieces(const ManyRowPieces& pieces, BF16* x,
                                   BF16* w) {
#pragma unroll
  for (int i = 0; i < kManyPiecesX; ++i) {
    const int piece = i * kManyThreads + threadIdx.x;
    BF16* to = x + piece / (kManyDepth / 4) * kManyStride +
               piece % (kManyDepth / 4) * 4;
    *reinterpret_cast<uint2*>(to) =
        make_uint2(packBf16(pieces.x[i][0], pieces.x[i][1]),
                   packBf16(pieces.x[i][2], pieces.x[i][3]));
  }
#pragma unroll
  for (int i = 0; i < kManyPiecesW; ++i) {
    const int piece = i * kManyThreads + threadIdx.x;
    BF16* to = w + piece / (kManyDepth / 8) * kManyStride +
               piece % (kManyDepth / 8) * 8;
    *reinterpret_cast<uint4*>(to) = pieces.w[i];
  }
}

using ManyRowSums = float[kManyRowParts][kManyColParts][4];

// The warp's products over one tile of K. x and w begin at its rows and
// outputs.
__device__ inline void multiplyTile(const BF16* x, const BF16* w, int lane,
                                    ManyRowSums& sums) {
  // Matrices of x: rows 0..7, 8..15, then the same at columns 8..15. Of w, as
  // columns of the second factor: outputs 0..7 at k 0..7 and 8..15, then
  // outputs 8..15.
  const BF16* xRow = x + lane % 16 * kManyStride + lane / 16 * 8;
  const BF16* wRow =
      w + (lane / 16 * 8 + lane % 8) * kManyStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < kManyDepth; k += 16) {
    uint32_t second[kManyColParts / 2][4];
#pragma unroll
    for (int n = 0; n < kManyColParts / 2; ++n)
      loadMatrices(wRow + n * 16 * kManyStride + k, second[n]);
#pragma unroll
    for (int m = 0; m < kManyRowParts; ++m) {
      uint32_t first[4];
      loadMatrices(xRow + m * 16 * kManyStride + k, first);
#pragma unroll
      for (int n = 0; n < kManyColParts; ++n)
        multiplyMatrices(sums[m][n], first, second[n / 2][n % 2 * 2],
                         second[n / 2][n % 2 * 2 + 1]);
    }
  }
}

/// Calls store(row, column, sum) for the elements of the block's tile that are
/// valid: rows from `row`, the columns of `tile`. `vectors`: x and the weight
/// can be read 16 bytes at a time.
template <typename Rows, typename Store>
__device__ inline void multiplyManyRows(const Rows& a, const WeightTile& tile,
                                        int64_t row, bool vectors,
                                        const Store& store) {
  __shared__ __align__(16) BF16 sharedX[2][kManyRows * kManyStride];
  __shared__ __align__(16) BF16 sharedW[2][kManyCols * kManyStride];
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int warpRow = warp / 4 * kManyWarpRows;
  const int warpCol = warp % 4 * kManyWarpCols;
  ManyRowSums sums = {};
  ManyRowPieces pieces;
  const int64_t K = a.K;
  loadPieces(a, tile, row, 0, vectors, pieces);
  storePieces(pieces, sharedX[0], sharedW[0]);
  __syncthreads();
  int current = 0;
  for (int64_t k = 0; k < K; k += kManyDepth) {
    const bool isMore = k + kManyDepth < K;
    if (isMore)
      loadPieces(a, tile, row, k + kManyDepth, vectors, pieces);
    multiplyTile(sharedX[current] + warpRow * kManyStride,
                 sharedW[current] + warpCol * kManyStride, lane, sums);
    if (isMore)
      storePieces(pieces, sharedX[1 - current], sharedW[1 - current]);
    __syncthreads();
    current = 1 - current;
  }
#pragma unroll
  for (int m = 0; m < kManyRowParts; ++m)
#pragma unroll
    for (int n = 0; n < kManyColParts; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int64_t r = row + warpRow + m * 16 + lane / 4 + i / 2 * 8;
        const int64_t c = tile.col + warpCol + n * 8 + lane % 4 * 2 + i % 2;
        if (r < a.rows && c < tile.N)
          store(r, c, sums[m][n][i]);
      }
}

} // namespace llmrt::cuda
