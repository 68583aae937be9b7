// SPDX-License-Identifier: Apache-2.0
// Products of a few normed rows with rows of weights, as fast as the weights
// are read: what fused_linear and linear_rope_append share. A block multiplies
// some rows of x by some rows of weights ("slots", which the kernel maps to its
// outputs) and leaves sums of its warps in shared memory; the kernel's
// epilogue adds them up, in their order, and goes on from there. Over 500 lines
// because both forms and the norm agree on one layout of shared memory.
//
// Two forms. By lanes: a warp streams R weights, 16 bytes a lane, several
// loads in flight; x stays f32. By tensor cores, for bf16 weights and 3 to 16
// rows: as LinearSomeRows.cu, x as the sum of two bf16 numbers. In both, warps
// that share a slot take every so-manieth step of K, so that short weights also
// keep enough loads in flight.
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
__device__ inline void streamWeights(const NormedRows& a, int64_t row,
                                     const WeightRow<W> (&w)[R], int part,
                                     int parts, float* statistics,
                                     float (&sum)[M][R], float (&squares)[M]) {
  constexpr int V = WeightRow<W>::kElements;
  constexpr bool kHasFactors = WeightRow<W>::kHasFactors;
  // Loads in flight for each slot; those of blocks hold more to work on, which
  // many rows need registers for.
  constexpr int U = kHasFactors ? (M > 4 ? 1 : 2) : R <= 2 ? 4 : 2;
  const int lane = threadIdx.x % kWarpLanes;
  const int K = static_cast<int>(a.K), step = parts * kWarpLanes * V;
  uint4 raw[U][R];
  uint16_t factors[U][R];
  auto request = [&](int begin) {
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const int k = begin + u * step;
        raw[u][r] = k < K ? w[r].load(k) : make_uint4(0, 0, 0, 0);
        if constexpr (kHasFactors)
          factors[u][r] = k < K ? w[r].factors[k / kBlockElements] : 0;
      }
  };
  int begin = (part * kWarpLanes + lane) * V;
  request(begin);
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
  while (begin < K) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int k = begin + u * step;
      if (k >= K)
        break;
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
    }
    begin += U * step;
    if (begin < K)
      request(begin);
  }
}

template <typename W, int M, int R, InputNorm kNorm>
__device__ inline void sumByLanes(const NormedRows& a, int64_t row,
                                  const WeightRow<W> (&w)[R], int parts,
                                  float* statistics, float* shared) {
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  float sum[M][R] = {}, squares[M] = {};
  streamWeights<W, M, R, kNorm>(a, row, w, warp % parts, parts, statistics, sum,
                                squares);
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
  const int groups = slots / R, parts = kProductWarps / groups;
  const int group = threadIdx.x / kWarpLanes / parts;
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

// ---- by tensor cores ----

inline constexpr int kMatrixSlots = 16;
inline constexpr int kMatrixStep = 32; // elements of K of one step of a warp

/// Floats of shared memory for T times 8 rows.
template <int T>
inline constexpr int kMatrixSums = kProductWarps * 8 * T*(kMatrixSlots + 1);

/// Four neighbouring elements of a row as bf16, rounded and rest.
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
  const float* x[T];
  float mean[T], inverse[T];
  if constexpr (kNorm == InputNorm::Layer)
    layerStatistics(a, row, 8 * T, statistics);
#pragma unroll
  for (int t = 0; t < T; ++t) {
    const int m = t * 8 + lane / 4;
    x[t] = a.x + least(row + m, a.rows - 1) * a.ldx;
    mean[t] = kNorm == InputNorm::Layer ? statistics[2 * m] : 0.0f;
    inverse[t] = kNorm == InputNorm::Layer ? statistics[2 * m + 1] : 1.0f;
  }
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
          vectors.load(x[t] + from + 4 * half, mean[t], inverse[t], values,
                       added);
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
  const int warp = threadIdx.x / kWarpLanes, lane = threadIdx.x % kWarpLanes;
  float sum[T][4] = {}, squares[T] = {};
  multiplyMatrixSteps<T, kNorm>(a, row, w, statistics, sum, squares);
  float* mine = shared + warp * 8 * T * (kMatrixSlots + 1);
#pragma unroll
  for (int t = 0; t < T; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      mine[(t * 8 + lane % 4 * 2 + i % 2) * kMatrixSlots + lane / 4 +
           i / 2 * 8] = sum[t][i];
    if constexpr (kNorm == InputNorm::RootMeanSquare) {
      const float total = sumOfLanes(squares[t], 4);
      if (lane % 4 == 0)
        mine[8 * T * kMatrixSlots + t * 8 + lane / 4] = total;
    }
  }
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
  constexpr int perWarp = 8 * T * (kMatrixSlots + 1);
  return {shared, kProductWarps,       perWarp, kMatrixSlots, kMatrixSlots,
          0,      8 * T * kMatrixSlots};
}

// ---- what needs all outputs of a row ----

/// Returns true in the last of `blocks` blocks that come here with `counter`,
/// which then sees what all of them have written. All threads of a block come.
__device__ inline bool isLastBlock(uint8_t* scratch, int64_t counter,
                                   int64_t blocks) {
  __shared__ unsigned finished;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0)
    finished = atomicInc(
        reinterpret_cast<uint32_t*>(scratch - kCudaCounterBytes) + counter,
        static_cast<unsigned>(blocks - 1));
  __syncthreads();
  if (finished != static_cast<unsigned>(blocks - 1))
    return false;
  __threadfence();
  return true;
}

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
