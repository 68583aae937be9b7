// SPDX-License-Identifier: Apache-2.0
// linear on CUDA for 3 to 16 rows and bf16 weights, as fast as the weights are
// read: tensor cores, with weights that go from memory to registers 16 bytes a
// lane. A block owns 16 outputs; its 8 warps take every 8th step of 32 elements
// of K, and their sums are added in their order.
//
// x is not rounded: it is the sum of two bf16 numbers, rounded and rest, to
// 2^-17 of its size; sums are f32.
//
// The order of K inside a product is free as long as both factors have the
// same. A lane's eight neighbouring elements serve as those that two products
// want of it, so that no element has to move to another lane.
//
// Constraints  dtype bf16; layout RowMajor; no slots; K a multiple of 8, ldx of
// 4; x and weights aligned to 16 bytes.    Scratch  none.
#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kOutputs = 16;
constexpr int kStep = 32;    // elements of K of one step of a warp
constexpr int kInFlight = 4; // steps whose weights are loaded together

/// Eight neighbouring elements of a row of x as bf16, rounded and rest.
struct Factor {
  uint32_t rounded[4];
  uint32_t rest[4];
};

__device__ inline Factor loadFactor(const float* x) {
  float values[8];
  widenVector(load16(x), x, values);
  widenVector(load16(x + 4), x, values + 4);
  Factor f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float low = values[2 * i], high = values[2 * i + 1];
    const uint32_t pair = packBf16(low, high);
    f.rounded[i] = pair;
    f.rest[i] = packBf16(low - floatOfBits(pair << 16),
                         high - floatOfBits(pair & 0xFFFF0000u));
  }
  return f;
}

/// T times 8 rows of x times the block's outputs, over the steps of one warp.
template <int T>
__device__ inline void
multiplySteps(const float* const (&x)[T], const BF16* const (&w)[2], int64_t K,
              int64_t begin, int mine, float (&sum)[T][4]) {
  constexpr int64_t stride = kWarps * kStep;
  for (int64_t step = begin; step < K; step += kInFlight * stride) {
    // The lanes of a warp multiply together, also those behind the end: zeros.
    const int64_t k = step + mine;
    uint4 raw[kInFlight][2];
#pragma unroll
    for (int u = 0; u < kInFlight; ++u)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        raw[u][i] = k + u * stride < K ? loadOnce(w[i] + k + u * stride)
                                       : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const int64_t from = k + u * stride < K ? k + u * stride : 0;
      const uint32_t first[4] = {raw[u][0].x, raw[u][1].x, raw[u][0].y,
                                 raw[u][1].y};
      const uint32_t second[4] = {raw[u][0].z, raw[u][1].z, raw[u][0].w,
                                  raw[u][1].w};
#pragma unroll
      for (int t = 0; t < T; ++t) {
        const Factor f = loadFactor(x[t] + from);
        multiplyMatrices(sum[t], first, f.rest[0], f.rest[1]);
        multiplyMatrices(sum[t], second, f.rest[2], f.rest[3]);
        multiplyMatrices(sum[t], first, f.rounded[0], f.rounded[1]);
        multiplyMatrices(sum[t], second, f.rounded[2], f.rounded[3]);
      }
    }
  }
}

template <int T>
__device__ inline void linearSomeRows(const uint64_t* args, int64_t rows,
                                      int64_t cols, int64_t rowTile,
                                      int64_t colTile, float* shared) {
  const auto& a = argsOf<LinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  const WeightTile tile = weightTileAt(a, grid.colBegin, colTile);
  if (grid.rowBegin >= a.rows || tile.N == 0)
    return;
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int64_t K = a.K;
  // Rows and outputs beyond the last are the last once more, and not stored.
  const float* x[T];
  const BF16* w[2];
#pragma unroll
  for (int t = 0; t < T; ++t)
    x[t] = a.x + least(grid.rowBegin + t * 8 + lane / 4, a.rows - 1) * a.ldx;
#pragma unroll
  for (int i = 0; i < 2; ++i)
    w[i] = static_cast<const BF16*>(tile.w) +
           least(tile.col + lane / 4 + i * 8, tile.N - 1) * K;
  float sum[T][4] = {};
  multiplySteps<T>(x, w, K, warp * kStep, lane % 4 * 8, sum);
#pragma unroll
  for (int t = 0; t < T; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      shared[(warp * 8 * T + t * 8 + lane % 4 * 2 + i % 2) * kOutputs +
             lane / 4 + i / 2 * 8] = sum[t][i];
  __syncthreads();
  for (int e = threadIdx.x; e < 8 * T * kOutputs; e += kWarps * kWarpLanes) {
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kWarps; ++i)
      total += shared[i * 8 * T * kOutputs + e];
    const int64_t row = grid.rowBegin + e / kOutputs;
    const int64_t col = tile.col + e % kOutputs;
    if (row < a.rows && col < tile.N)
      tile.y[row * tile.ldy + col] = total;
  }
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_mma_8, 256, 2) {
  __shared__ float shared[8 * 8 * 16];
  llmrt::cuda::linearSomeRows<1>(args, rows, cols, rowTile, colTile, shared);
}

LLMRT_CUDA_ENTRY(linear_mma_16, 256, 2) {
  __shared__ float shared[8 * 16 * 16];
  llmrt::cuda::linearSomeRows<2>(args, rows, cols, rowTile, colTile, shared);
}
