// SPDX-License-Identifier: Apache-2.0
// Products of more than 16 rows with bf16 weights, shared by `linear` and
// `fused_linear`: tensor cores over tiles of 128 rows x 128 outputs x 32
// elements of K, two of them in shared memory; x is rounded to bf16 (nearest
// even), sums are f32. `Rows` are arguments with rows, x, ldx and K.
#pragma once

#include "runtime/kernels/cuda/LinearMatrixTile.cuh"
#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {

/// 16-byte pieces that a thread moves for each tile of x (f32) and of the
/// weight.
inline constexpr int kPiecesX = kTileRows * kTileK / 4 / kThreads;
inline constexpr int kPiecesW = kTileCols * kTileK / 8 / kThreads;

/// The tiles of one step in K, on their way to shared memory.
struct ManyRowPieces {
  float x[kPiecesX][4];
  uint4 w[kPiecesW];
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
  for (int i = 0; i < kPiecesX; ++i) {
    const int piece = i * kThreads + threadIdx.x;
    loadX(a, row + piece / (kTileK / 4), k + piece % (kTileK / 4) * 4, vectors,
          pieces.x[i]);
  }
#pragma unroll
  for (int i = 0; i < kPiecesW; ++i) {
    const int piece = i * kThreads + threadIdx.x;
    pieces.w[i] = loadW(tile, a.K, tile.col + piece / (kTileK / 8),
                        k + piece % (kTileK / 8) * 8, vectors);
  }
}

__device__ inline void storePieces(const ManyRowPieces& pieces, BF16* x,
                                   BF16* w) {
#pragma unroll
  for (int i = 0; i < kPiecesX; ++i) {
    const int piece = i * kThreads + threadIdx.x;
    BF16* to = x + piece / (kTileK / 4) * kStride + piece % (kTileK / 4) * 4;
    *reinterpret_cast<uint2*>(to) =
        make_uint2(packBf16(pieces.x[i][0], pieces.x[i][1]),
                   packBf16(pieces.x[i][2], pieces.x[i][3]));
  }
#pragma unroll
  for (int i = 0; i < kPiecesW; ++i) {
    const int piece = i * kThreads + threadIdx.x;
    BF16* to = w + piece / (kTileK / 8) * kStride + piece % (kTileK / 8) * 8;
    *reinterpret_cast<uint4*>(to) = pieces.w[i];
  }
}

/// Calls store(row, column, sum) for the elements of the block's tile that are
/// valid: rows from `row`, the columns of `tile`. `vectors`: x and the weight
/// can be read 16 bytes at a time.
template <typename Rows, typename Store>
__device__ inline void multiplyManyRows(const Rows& a, const WeightTile& tile,
                                        int64_t row, bool vectors,
                                        const Store& store) {
  __shared__ __align__(16) BF16 sharedX[2][kTileRows * kStride];
  __shared__ __align__(16) BF16 sharedW[2][kTileCols * kStride];
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int warpRow = warp / 4 * kWarpRows;
  const int warpCol = warp % 4 * kWarpCols;
  Sums sums = {};
  ManyRowPieces pieces;
  const int64_t K = a.K;
  loadPieces(a, tile, row, 0, vectors, pieces);
  storePieces(pieces, sharedX[0], sharedW[0]);
  __syncthreads();
  int current = 0;
  for (int64_t k = 0; k < K; k += kTileK) {
    const bool isMore = k + kTileK < K;
    if (isMore)
      loadPieces(a, tile, row, k + kTileK, vectors, pieces);
    multiplyTile(sharedX[current] + warpRow * kStride,
                 sharedW[current] + warpCol * kStride, lane, sums);
    if (isMore)
      storePieces(pieces, sharedX[1 - current], sharedW[1 - current]);
    __syncthreads();
    current = 1 - current;
  }
  storeSums(sums, row + warpRow, tile.col + warpCol, a.rows, tile.N, store);
}

} // namespace llmrt::cuda
