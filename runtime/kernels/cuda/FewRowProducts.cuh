// SPDX-License-Identifier: Apache-2.0
// Products of a few normed rows with rows of weights, as fast as the weights
// are read: what fused_linear and linear_rope_append share. A block multiplies
// some rows of x by some rows of weights ("slots", which the kernel maps to its
// outputs) and leaves sums of its warps in shared memory; the kernel's
// epilogue adds them up, in their order, and goes on from there.
//
// Here: the norm, rows of weights in each format, and the form by lanes, where
// a warp streams R weights, 16 bytes a lane, several loads in flight, and x
// stays f32. Forms by tensor cores: FewRowMatrices.cuh for bf16 weights,
// FewRowQuantizedMatrices.cuh for blocks. In all of them warps that share a
// slot take every so-manieth step of K, so that short weights also keep enough
// loads in flight.
//
// The norm costs no pass of its own. The factor that a root-mean-square norm
// gives a whole row comes last: warps add the squares of what they multiply.
// A layer norm's mean and variance are computed while the first weights are on
// their way.
//
// A launch may begin before the one before it has ended
// (CudaLaunchShape::mayBeginEarly): until waitForPreviousLaunch() it reads
// words and weights only, and it writes nothing.
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"
#include "runtime/kernels/cuda/FusedProductArgs.h"

#include <type_traits>

namespace llmrt::cuda {

inline constexpr int kProductWarps = 8;
inline constexpr int kProductThreads = kProductWarps * kWarpLanes;
inline constexpr int kMostProductRows = 16; // of a block

/// Sums of the warps of a block in shared memory: `parts` for each row and
/// slot, partStride apart; squares likewise for each row.
struct BlockSums {
  const float* sums;
  int parts;
  int partStride;
  int rowStride;
  int slotsTogether; // neighbours, then groupStride
  int groupStride;
  int squares; // where they begin

  __device__ float total(int at) const {
    float sum = 0.0f;
    for (int i = 0; i < parts; ++i)
      sum += sums[i * partStride + at];
    return sum;
  }

  __device__ float product(int row, int slot) const {
    return total(row * rowStride + slot / slotsTogether * groupStride +
                 slot % slotsTogether);
  }

  /// Returns what the norm multiplies the whole row by.
  __device__ float rowFactor(const NormedRows& a, int row) const {
    if (a.norm != static_cast<int64_t>(InputNorm::RootMeanSquare))
      return 1.0f;
    return 1.0f / sqrtf(total(squares + row) / static_cast<float>(a.K) +
                        static_cast<float>(a.eps));
  }
};

/// Adds v over the rows of a block; every row of the block gets its mean and
/// the reciprocal root of its variance, in shared memory [rows, 2]. All threads
/// of the block take part.
__device__ inline void layerStatistics(const NormedRows& a, int64_t firstRow,
                                       int numRows, float* statistics) {
  const int lane = threadIdx.x % kWarpLanes;
  for (int m = threadIdx.x / kWarpLanes; m < numRows; m += kProductWarps) {
    const float* x = a.x + least(firstRow + m, a.rows - 1) * a.ldx;
    float sum = 0.0f;
    for (int64_t k = lane; k < a.K; k += kWarpLanes)
      sum += x[k];
    const float mean = sumOfLanes(sum) / static_cast<float>(a.K);
    float squares = 0.0f;
    for (int64_t k = lane; k < a.K; k += kWarpLanes)
      squares = fmaf(x[k] - mean, x[k] - mean, squares);
    const float variance = sumOfLanes(squares) / static_cast<float>(a.K);
    if (lane == 0) {
      statistics[2 * m] = mean;
      statistics[2 * m + 1] =
          1.0f / sqrtf(variance + static_cast<float>(a.eps));
    }
  }
  __syncthreads();
}

/// The norm's vectors at four neighbouring elements.
template <InputNorm kNorm>
struct NormVectors {
  float weight[4];
  float bias[4];

  __device__ NormVectors(const NormedRows& a, int k) {
    if constexpr (kNorm != InputNorm::None) {
      widenVector(load16(a.normWeight + k), a.normWeight, weight);
      const float offset = static_cast<float>(a.offset);
#pragma unroll
      for (int i = 0; i < 4; ++i)
        weight[i] += offset;
    }
    if constexpr (kNorm == InputNorm::Layer)
      widenVector(load16(a.normBias + k), a.normBias, bias);
  }

  /// Loads four elements of x as a product wants them, and adds their squares.
  __device__ void load(const float* x, float mean, float inverse, float* out,
                       float& squares) const {
    widenVector(load16(x), x, out);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kNorm == InputNorm::RootMeanSquare) {
        squares = fmaf(out[i], out[i], squares);
        out[i] *= weight[i];
      }
      if constexpr (kNorm == InputNorm::Layer)
        out[i] = (out[i] - mean) * inverse * weight[i] + bias[i];
    }
  }
};

// ---- rows of weights ----

/// Row n of a weight [N, K].
struct WeightPlace {
  const void* w;
  int64_t n;
  int64_t N;
};

/// Formats of blocks.
struct Q8 {};

struct Q4 {};

/// A row of weights that is read 16 bytes at a time, four elements of which are
/// taken at a time.
template <typename W>
struct WeightRow {
  static constexpr int kElements = kVector<W>; // of 16 bytes
  static constexpr bool kHasFactors = false;
  const W* w;

  __device__ static WeightRow at(const WeightPlace& place, int64_t K) {
    return {static_cast<const W*>(place.w) + place.n * K};
  }

  __device__ uint4 load(int k) const { return loadOnce(w + k); }

  __device__ static void take(uint4 raw, int first, float* out) {
    widenFour(raw, static_cast<const W*>(nullptr), first, out);
  }
};

/// Factors of a row of blocks, which lie behind all elements.
__device__ inline const uint16_t* factorsOf(const WeightPlace& place, int64_t K,
                                            int64_t rowBytes) {
  return reinterpret_cast<const uint16_t*>(
             static_cast<const uint8_t*>(place.w) + place.N * rowBytes) +
         place.n * (K / kBlockElements);
}

/// Word i of 16 bytes; i is a constant.
__device__ inline uint32_t wordOf(uint4 raw, int i) {
  return i == 0 ? raw.x : i == 1 ? raw.y : i == 2 ? raw.z : raw.w;
}

template <>
struct WeightRow<Q8> {
  static constexpr int kElements = 16;
  static constexpr bool kHasFactors = true;
  const uint8_t* w;
  const uint16_t* factors;

  __device__ static WeightRow at(const WeightPlace& place, int64_t K) {
    return {static_cast<const uint8_t*>(place.w) + place.n * K,
            factorsOf(place, K, K)};
  }

  __device__ uint4 load(int k) const { return loadOnce(w + k); }

  // Signed bytes, moved by 128 to be unsigned.
  __device__ static void take(uint4 raw, int first, float* out) {
    const uint32_t four = wordOf(raw, first / 4) ^ 0x80808080u;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      out[i] = liftedByte(four, i) - 8388736.0f; // 2^23 + 128
  }
};

template <>
struct WeightRow<Q4> {
  static constexpr int kElements = 32;
  static constexpr bool kHasFactors = true;
  const uint8_t* w;
  const uint16_t* factors;

  __device__ static WeightRow at(const WeightPlace& place, int64_t K) {
    return {static_cast<const uint8_t*>(place.w) + place.n * (K / 2),
            factorsOf(place, K, K / 2)};
  }

  __device__ uint4 load(int k) const { return loadOnce(w + k / 2); }

  __device__ static void take(uint4 raw, int first, float* out) {
    const uint32_t word = wordOf(raw, first % 16 / 4);
    const uint32_t four = (first < 16 ? word : word >> 4) & 0x0F0F0F0Fu;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      out[i] = liftedByte(four, i) - 8388616.0f; // 2^23 + 8
  }
};

// ---- by lanes ----

/// Floats of shared memory for M rows and R slots of a warp.
template <int M, int R>
inline constexpr int kLaneSums = kProductWarps* M*(R + 1);

/// Adds M rows times R weights over the steps of one of `parts` warps.
template <typename W, int M, int R, InputNorm kNorm>
__device__ inline void streamWeights(const NormedRows& words, int64_t row,
                                     const WeightRow<W> (&w)[R], int part,
                                     int parts, float* statistics,
                                     float (&sum)[M][R], float (&squares)[M]) {
  constexpr int V = WeightRow<W>::kElements;
  constexpr bool kHasFactors = WeightRow<W>::kHasFactors;
  // Loads in flight for each slot; those of blocks hold more to work on.
  constexpr int U = R <= 2 && !kHasFactors ? 4 : 2;
  const int lane = threadIdx.x % kWarpLanes;
  // One row of bf16 or f32 weights has registers left: for words, which are not
  // read again behind the wait, and for addresses, so that what is used up is
  // asked for at once.
  constexpr bool kHasRegisters = M == 1 && !kHasFactors;
  std::conditional_t<kHasRegisters, const NormedRows, const NormedRows&> a =
      words;
  const int K = static_cast<int>(a.K), step = parts * kWarpLanes * V;
  uint4 raw[U][R];
  uint16_t factors[U][R];
  auto request = [&](int u, int k) {
    if (k >= K)
      return;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      raw[u][r] = w[r].load(k);
      if constexpr (kHasFactors)
        factors[u][r] = w[r].factors[k / kBlockElements];
    }
  };
  int k = (part * kWarpLanes + lane) * V;
#pragma unroll
  for (int u = 0; u < U; ++u)
    request(u, k + u * step);
  waitForPreviousLaunch();
  const float* x[M];
  float mean[M], inverse[M];
  if constexpr (kNorm == InputNorm::Layer)
    layerStatistics(a, row, M, statistics);
#pragma unroll
  for (int m = 0; m < M; ++m) {
    x[m] = a.x + least(row + m, a.rows - 1) * a.ldx;
    mean[m] = kNorm == InputNorm::Layer ? statistics[2 * m] : 0.0f;
    inverse[m] = kNorm == InputNorm::Layer ? statistics[2 * m + 1] : 1.0f;
  }
  auto multiply = [&](const uint4(&weights)[R], int k, float(&to)[M][R]) {
#pragma unroll
    for (int v = 0; v < V; v += 4) {
      const NormVectors<kNorm> vectors(a, k + v);
      float four[R][4];
#pragma unroll
      for (int r = 0; r < R; ++r)
        WeightRow<W>::take(weights[r], v, four[r]);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        float factor[4];
        vectors.load(x[m] + k + v, mean[m], inverse[m], factor, squares[m]);
#pragma unroll
        for (int r = 0; r < R; ++r)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            to[m][r] = fmaf(factor[i], four[r][i], to[m][r]);
      }
    }
  };
  auto add = [&](int u, int k) {
    if constexpr (kHasFactors) {
      float ofBlock[M][R] = {};
      multiply(raw[u], k, ofBlock);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const float factor = floatOfHalf(factors[u][r]);
#pragma unroll
        for (int m = 0; m < M; ++m)
          sum[m][r] = fmaf(ofBlock[m][r], factor, sum[m][r]);
      }
    } else {
      multiply(raw[u], k, sum);
    }
  };
  if constexpr (kHasRegisters) {
    // Whole rounds have no way out between their steps: loads of x can go
    // before the products of a step earlier.
#pragma unroll 1
    for (; k + (U - 1) * step < K; k += U * step) {
#pragma unroll
      for (int u = 0; u < U; ++u) {
        add(u, k + u * step);
        request(u, k + (U + u) * step);
      }
    }
#pragma unroll
    for (int u = 0; u < U - 1; ++u)
      if (k + u * step < K)
        add(u, k + u * step);
  } else {
    while (k < K) {
#pragma unroll
      for (int u = 0; u < U; ++u) {
        if (k + u * step >= K)
          break;
        add(u, k + u * step);
      }
      k += U * step;
#pragma unroll
      for (int u = 0; u < U; ++u)
        request(u, k + u * step);
    }
  }
}

template <typename W, int M, int R, InputNorm kNorm>
__device__ inline void sumByLanes(const NormedRows& a, int64_t row,
                                  const WeightRow<W> (&w)[R], int parts,
                                  float* statistics, float* shared) {
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  float sum[M][R] = {}, squares[M] = {};
  streamWeights<W, M, R, kNorm>(a, row, w, warp & (parts - 1), parts,
                                statistics, sum, squares);
  float* mine = shared + warp * M * (R + 1);
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float total = sumOfLanes(sum[m][r]);
      if (lane == 0)
        mine[m * R + r] = total;
    }
    if constexpr (kNorm == InputNorm::RootMeanSquare) {
      const float total = sumOfLanes(squares[m]);
      if (lane == 0)
        mine[M * R + m] = total;
    }
  }
}

/// Multiplies rows [row, row + M) by `slots` weights; weightAt(slot) says where
/// one is (those behind the last are asked for too). shared holds
/// kLaneSums<M, R> floats.
template <typename W, int M, int R, typename WeightAt>
__device__ inline BlockSums productsByLanes(const NormedRows& a, int64_t row,
                                            int slots, float* shared,
                                            WeightAt weightAt) {
  __shared__ float statistics[2 * kMostProductRows];
  // Powers of two, and no division: nothing is asked for before they are known.
  static_assert(kProductWarps == 8);
  const int groups = slots / R;
  const int parts = groups == 1 ? 8 : groups == 2 ? 4 : groups == 4 ? 2 : 1;
  const int group = threadIdx.x / kWarpLanes * groups / kProductWarps;
  WeightRow<W> w[R];
#pragma unroll
  for (int r = 0; r < R; ++r)
    w[r] = WeightRow<W>::at(weightAt(group * R + r), a.K);
  if (a.norm == static_cast<int64_t>(InputNorm::RootMeanSquare))
    sumByLanes<W, M, R, InputNorm::RootMeanSquare>(a, row, w, parts, statistics,
                                                   shared);
  else if (a.norm == static_cast<int64_t>(InputNorm::Layer))
    sumByLanes<W, M, R, InputNorm::Layer>(a, row, w, parts, statistics, shared);
  else
    sumByLanes<W, M, R, InputNorm::None>(a, row, w, parts, statistics, shared);
  __syncthreads();
  constexpr int perWarp = M * (R + 1);
  return {shared, parts, perWarp, R, R, parts * perWarp, M * R};
}

// ---- what needs all outputs of a row ----

/// Scales a row, by the lanes of one warp, to y / sqrt(mean(y^2) + eps) *
/// (weight + offset), each lane its own elements: write(d, value).
template <typename Write>
__device__ inline void normByWarp(const float* y, int64_t width, double eps,
                                  const float* weight, double offset,
                                  Write write) {
  const int lane = threadIdx.x % kWarpLanes;
  float squares = 0.0f;
  for (int64_t d = lane; d < width; d += kWarpLanes)
    squares = fmaf(y[d], y[d], squares);
  const float inverse =
      1.0f / sqrtf(sumOfLanes(squares) / static_cast<float>(width) +
                   static_cast<float>(eps));
  for (int64_t d = lane; d < width; d += kWarpLanes)
    write(d, y[d] * inverse * (weight[d] + static_cast<float>(offset)));
}

} // namespace llmrt::cuda
