// SPDX-License-Identifier: Apache-2.0
// Products of FewRowProducts.cuh by tensor cores: 8 or 16 rows of x, those
// behind the last being the last once more, times 16 slots of bf16 weights, as
// in LinearSomeRows.cu. x is the sum of two bf16 numbers, rounded and rest, to
// 2^-17 of its size; sums are f32. FewRowQuantizedMatrices.cuh does the same
// with blocks and shares what is said of x and of the sums here.
//
// In mma.m16n8k16 a slot is a row of the first factor and a row of x a column
// of the second: a lane holds elements of slots lane / 4 and lane / 4 + 8 and
// of row lane / 4. The order of K inside a product is free as long as both
// factors have the same, so that no element has to move to another lane.
#pragma once

#include "runtime/kernels/cuda/FewRowProducts.cuh"

namespace llmrt::cuda {

inline constexpr int kMatrixSlots = 16;
inline constexpr int kMatrixStep = 32; // elements of K of one step of a warp

/// Floats that a warp leaves in shared memory for T times 8 rows and A times
/// kMatrixSlots slots, and those of a block.
template <int T, int A>
inline constexpr int kWarpSums = 8 * T*(A* kMatrixSlots + 1);
template <int T>
inline constexpr int kMatrixSums = kProductWarps* kWarpSums<T, 1>;

/// Four elements of a row as bf16, two and two, rounded and rest.
struct SplitFactor {
  uint32_t rounded[2];
  uint32_t rest[2];

  __device__ explicit SplitFactor(const float (&values)[4]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float low = values[2 * i], high = values[2 * i + 1];
      const uint32_t pair = packBf16(low, high);
      rounded[i] = pair;
      rest[i] = packBf16(low - floatOfBits(pair << 16),
                         high - floatOfBits(pair & 0xFFFF0000u));
    }
  }
};

/// The rows of x that a lane multiplies, and what a layer norm knows of them.
/// All threads of the block make theirs together.
template <int T, InputNorm kNorm>
struct LaneRows {
  const float* x[T];
  float mean[T];
  float inverse[T];

  __device__ LaneRows(const NormedRows& a, int64_t row, float* statistics) {
    const int lane = threadIdx.x % kWarpLanes;
    if constexpr (kNorm == InputNorm::Layer)
      layerStatistics(a, row, 8 * T, statistics);
#pragma unroll
    for (int t = 0; t < T; ++t) {
      const int m = t * 8 + lane / 4;
      x[t] = a.x + least(row + m, a.rows - 1) * a.ldx;
      mean[t] = kNorm == InputNorm::Layer ? statistics[2 * m] : 0.0f;
      inverse[t] = kNorm == InputNorm::Layer ? statistics[2 * m + 1] : 1.0f;
    }
  }
};

/// Leaves a warp's sums at `mine` in shared memory, where matrixSums finds
/// them.
template <int A, int T, InputNorm kNorm>
__device__ inline void storeMatrixSums(const float (&sum)[A][T][4],
                                       const float (&squares)[T], float* mine) {
  constexpr int slots = A * kMatrixSlots;
  const int lane = threadIdx.x % kWarpLanes;
#pragma unroll
  for (int t = 0; t < T; ++t) {
#pragma unroll
    for (int j = 0; j < A; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        mine[(t * 8 + lane % 4 * 2 + i % 2) * slots + j * kMatrixSlots +
             lane / 4 + i / 2 * 8] = sum[j][t][i];
    if constexpr (kNorm == InputNorm::RootMeanSquare) {
      const float total = sumOfLanes(squares[t], 4);
      if (lane % 4 == 0)
        mine[8 * T * slots + t * 8 + lane / 4] = total;
    }
  }
}

/// All warps have stored, each `perWarp` floats behind the one before.
template <int A, int T>
__device__ inline BlockSums matrixSums(const float* shared, int perWarp) {
  constexpr int slots = A * kMatrixSlots;
  return {shared, kProductWarps, perWarp, slots, slots, 0, 8 * T * slots};
}

template <int T, InputNorm kNorm>
__device__ inline void
multiplyMatrixSteps(const NormedRows& a, int64_t row,
                    const WeightRow<BF16> (&w)[2], float* statistics,
                    float (&sum)[T][4], float (&squares)[T]) {
  constexpr int U = T == 1 ? 3 : 2; // steps whose weights are loaded together
  constexpr int stride = kProductWarps * kMatrixStep;
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int K = static_cast<int>(a.K), mine = lane % 4 * 8;
  uint4 raw[U][2];
  // The lanes of a warp multiply together, also those behind the end: zeros.
  auto request = [&](int step) {
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        raw[u][i] = step + mine + u * stride < K
                        ? w[i].load(step + mine + u * stride)
                        : make_uint4(0, 0, 0, 0);
  };
  int step = warp * kMatrixStep;
  request(step);
  waitForPreviousLaunch();
  const LaneRows<T, kNorm> rows(a, row, statistics);
  while (step < K) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int k = step + mine + u * stride;
      const bool isInside = k < K;
      const int from = isInside ? k : 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 above = raw[u][0], below = raw[u][1];
        const uint32_t weights[4] = {
            half == 0 ? above.x : above.z, half == 0 ? below.x : below.z,
            half == 0 ? above.y : above.w, half == 0 ? below.y : below.w};
        const NormVectors<kNorm> vectors(a, from + 4 * half);
#pragma unroll
        for (int t = 0; t < T; ++t) {
          float values[4], added = 0.0f;
          vectors.load(rows.x[t] + from + 4 * half, rows.mean[t],
                       rows.inverse[t], values, added);
          squares[t] += isInside ? added : 0.0f;
          const SplitFactor f(values);
          multiplyMatrices(sum[t], weights, f.rest[0], f.rest[1]);
          multiplyMatrices(sum[t], weights, f.rounded[0], f.rounded[1]);
        }
      }
    }
    step += U * stride;
    if (step < K)
      request(step);
  }
}

template <int T, InputNorm kNorm>
__device__ inline void sumByMatrices(const NormedRows& a, int64_t row,
                                     const WeightRow<BF16> (&w)[2],
                                     float* statistics, float* shared) {
  float sum[1][T][4] = {}, squares[T] = {};
  multiplyMatrixSteps<T, kNorm>(a, row, w, statistics, sum[0], squares);
  storeMatrixSums<1, T, kNorm>(
      sum, squares, shared + threadIdx.x / kWarpLanes * kWarpSums<T, 1>);
}

/// As productsByLanes for rows [row, row + 8 T) and kMatrixSlots slots. shared
/// holds kMatrixSums<T> floats.
template <int T, typename WeightAt>
__device__ inline BlockSums productsByMatrices(const NormedRows& a, int64_t row,
                                               float* shared,
                                               WeightAt weightAt) {
  __shared__ float statistics[2 * kMostProductRows];
  const int lane = threadIdx.x % kWarpLanes;
  const WeightRow<BF16> w[2] = {
      WeightRow<BF16>::at(weightAt(lane / 4), a.K),
      WeightRow<BF16>::at(weightAt(lane / 4 + 8), a.K)};
  if (a.norm == static_cast<int64_t>(InputNorm::RootMeanSquare))
    sumByMatrices<T, InputNorm::RootMeanSquare>(a, row, w, statistics, shared);
  else if (a.norm == static_cast<int64_t>(InputNorm::Layer))
    sumByMatrices<T, InputNorm::Layer>(a, row, w, statistics, shared);
  else
    sumByMatrices<T, InputNorm::None>(a, row, w, statistics, shared);
  __syncthreads();
  return matrixSums<1, T>(shared, kWarpSums<T, 1>);
}

} // namespace llmrt::cuda
