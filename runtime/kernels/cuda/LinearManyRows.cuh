// SPDX-License-Identifier: Apache-2.0
// Products of more than 16 rows with bf16 weights, shared by `linear` and
// `fused_linear`: tensor cores over tiles of 128 rows x 128 outputs x 32
// elements of K, two of them in shared memory; x is bf16, or rounded to it
// (nearest even), sums are f32. `Rows` are arguments with rows, x, ldx and K.
#pragma once

#include "runtime/kernels/cuda/LinearMatrixTile.cuh"
#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {

/// 16-byte pieces of bf16 that a thread moves for each tile of a factor.
inline constexpr int kPieces = kTileRows * kTileK / 8 / kThreads;
static_assert(kTileRows == kTileCols, "both factors have as many pieces");

/// A factor's part of one step in K, on its way to shared memory: pieces of
/// eight elements of bf16, or of four of f32.
template <typename T>
struct FactorPieces {
  static constexpr int V = kVector<T>;
  static constexpr int kCount = kPieces * 8 / V;
  uint4 raw[kCount];

  /// Rows from `from` of a matrix [rows, ld] of K columns; zeros beyond.
  __device__ void load(const T* matrix, int64_t ld, int64_t rows, int64_t K,
                       int64_t from, int64_t k, bool vectors) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int piece = i * kThreads + threadIdx.x;
      const int64_t row = from + piece / (kTileK / V);
      const int64_t col = k + piece % (kTileK / V) * V;
      raw[i] = row < rows && col < K
                   ? loadPiece(matrix + row * ld + col, K - col, vectors)
                   : make_uint4(0, 0, 0, 0);
    }
  }

  __device__ void store(BF16* to) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int piece = i * kThreads + threadIdx.x;
      storePiece(raw[i], to + piece / (kTileK / V) * kStride +
                             piece % (kTileK / V) * V);
    }
  }

private:
  __device__ static uint4 loadPiece(const T* x, int64_t count, bool vectors) {
    if (vectors)
      return load16(x);
    if constexpr (V == 4) {
      auto at = [&](int i) { return i < count ? bitsOfFloat(x[i]) : 0u; };
      return make_uint4(at(0), at(1), at(2), at(3));
    } else {
      auto pair = [&](int i) {
        const uint32_t low = i < count ? x[i].bits : 0u;
        const uint32_t high = i + 1 < count ? x[i + 1].bits : 0u;
        return low | high << 16;
      };
      return make_uint4(pair(0), pair(2), pair(4), pair(6));
    }
  }

  __device__ static void storePiece(uint4 raw, BF16* to) {
    if constexpr (V == 4)
      *reinterpret_cast<uint2*>(to) =
          make_uint2(packBf16(floatOfBits(raw.x), floatOfBits(raw.y)),
                     packBf16(floatOfBits(raw.z), floatOfBits(raw.w)));
    else
      *reinterpret_cast<uint4*>(to) = raw;
  }
};

/// Calls store(row, column, sum) for the elements of the block's tile that are
/// valid: rows from `row`, the columns of `tile`. X: type of x. `vectors`: x
/// and the weight can be read 16 bytes at a time.
template <typename X, typename Rows, typename Store>
__device__ inline void multiplyManyRows(const Rows& a, const WeightTile& tile,
                                        int64_t row, bool vectors,
                                        const Store& store) {
  __shared__ __align__(16) BF16 sharedX[2][kTileRows * kStride];
  __shared__ __align__(16) BF16 sharedW[2][kTileCols * kStride];
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int warpRow = warp / 4 * kWarpRows;
  const int warpCol = warp % 4 * kWarpCols;
  Sums sums = {};
  FactorPieces<X> x;
  FactorPieces<BF16> w;
  const int64_t K = a.K;
  auto load = [&](int64_t k) {
    x.load(reinterpret_cast<const X*>(a.x), a.ldx, a.rows, K, row, k, vectors);
    w.load(static_cast<const BF16*>(tile.w), K, tile.N, K, tile.col, k,
           vectors);
  };
  load(0);
  x.store(sharedX[0]);
  w.store(sharedW[0]);
  __syncthreads();
  int current = 0;
  for (int64_t k = 0; k < K; k += kTileK) {
    const bool isMore = k + kTileK < K;
    if (isMore)
      load(k + kTileK);
    multiplyTile(sharedX[current] + warpRow * kStride,
                 sharedW[current] + warpCol * kStride, lane, sums);
    if (isMore) {
      x.store(sharedX[1 - current]);
      w.store(sharedW[1 - current]);
    }
    __syncthreads();
    current = 1 - current;
  }
  storeSums(sums, row + warpRow, tile.col + warpCol, a.rows, tile.N, store);
}

} // namespace llmrt::cuda
