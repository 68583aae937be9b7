// SPDX-License-Identifier: Apache-2.0
// linear_rope_append for any format of weights: which slot is which row of
// weights, and what happens to the sums. FewRowProducts.cuh has the products.
#pragma once

#include "runtime/kernels/cuda/CachePages.cuh"
#include "runtime/kernels/cuda/FewRowProducts.cuh"
#include "runtime/kernels/cuda/RotateHead.cuh"

namespace llmrt::cuda {

/// Pairs [pair, pair + numPairs) of a head, which rows from `row` make. Counted
/// in 32 bits: fewer registers.
struct PairTile {
  int row;
  int numRows;
  int head; // of q, then k, then v
  int pair;
  int numPairs;
  int blocks; // of the head
};

__device__ inline bool isValue(const LinearRopeAppendArgs& a, int64_t head) {
  return head >= a.H + a.KV;
}

/// Element of a head that is half `which` of a pair; the other one is
/// partnerDistance on.
__device__ inline int64_t elementOf(const LinearRopeAppendArgs& a, int64_t head,
                                    int64_t pair, int which) {
  const int64_t half = a.rotary / 2;
  const bool isApart = a.style == 0 && pair < half && !isValue(a, head);
  return isApart ? pair + which * half : 2 * pair + which;
}

/// Number of the head among those of its weight, and the weight.
struct HeadWeight {
  const void* w;
  const float* bias;
  int64_t head;
};

__device__ inline HeadWeight weightOf(const LinearRopeAppendArgs& a,
                                      int64_t head) {
  if (head < a.H)
    return {a.w0, a.bias0, head};
  if (!isValue(a, head))
    return {a.w1, a.bias1, head - a.H};
  return {a.w2, a.bias2, head - a.H - a.KV};
}

__device__ inline WeightPlace weightAt(const LinearRopeAppendArgs& a,
                                       const PairTile& tile, int slot) {
  const HeadWeight weight = weightOf(a, tile.head);
  const int64_t pair = least(tile.pair + slot / 2, a.D / 2 - 1);
  return {weight.w, weight.head * a.D + elementOf(a, tile.head, pair, slot % 2),
          (tile.head < a.H ? a.H : a.KV) * a.D};
}

/// Stores two elements of a head: of a query, or of a key or value in its
/// cache.
template <typename T>
__device__ inline void storePair(const LinearRopeAppendArgs& a, int64_t row,
                                 int64_t head, const int64_t (&element)[2],
                                 const float (&value)[2]) {
  if (head < a.H) {
    float* out = a.qOut + row * a.ldo + head * a.D;
    out[element[0]] = value[0];
    out[element[1]] = value[1];
    return;
  }
  const int64_t position = a.positions[row];
  if (position < 0)
    return;
  const bool isOfValues = isValue(a, head);
  const CacheToken<T> out = cacheToken<T>(
      isOfValues ? a.valueCache : a.keyCache, a.blockTable, a.pages, row / a.R,
      position, a.KV, a.D, weightOf(a, head).head);
  narrowTo(value[0], out + static_cast<int>(element[0]));
  narrowTo(value[1], out + static_cast<int>(element[1]));
}

/// Turns a pair as rotateHead does, and stores it.
template <typename T>
__device__ inline void finishPair(const LinearRopeAppendArgs& a, int64_t row,
                                  int64_t head, int64_t pair, float x0,
                                  float x1) {
  const int64_t half = a.rotary / 2, position = a.positions[row];
  float value[2] = {x0, x1};
  if (!isValue(a, head) && pair < half && position >= 0) {
    const float* cosines = a.table + position * 2 * half;
    const float cosine = cosines[pair], sine = cosines[half + pair];
    value[0] = fmaf(x0, cosine, -(x1 * sine));
    value[1] = fmaf(x1, cosine, x0 * sine);
  }
  const int64_t element[2] = {elementOf(a, head, pair, 0),
                              elementOf(a, head, pair, 1)};
  storePair<T>(a, row, head, element, value);
}

/// Norms, turns and stores the rows of a head that all blocks have left in
/// scratch.
template <typename T>
__device__ inline void finishHead(const LinearRopeAppendArgs& a,
                                  const PairTile& tile, float* scratch) {
  const float* weight = tile.head < a.H ? a.headNormQ : a.headNormK;
  const int lane = threadIdx.x % kWarpLanes;
  for (int m = threadIdx.x / kWarpLanes; m < tile.numRows; m += kProductWarps) {
    const int64_t row = tile.row + m;
    if (row >= a.in.rows)
      break;
    float* x = scratch + (row * (a.H + a.KV) + tile.head) * a.D;
    normByWarp(x, a.D, a.headEps, weight, a.headOffset,
               [&](int64_t d, float value) { x[d] = value; });
    __syncwarp();
    for (int64_t pair = lane; pair < a.D / 2; pair += kWarpLanes)
      finishPair<T>(a, row, tile.head, pair,
                    x[elementOf(a, tile.head, pair, 0)],
                    x[elementOf(a, tile.head, pair, 1)]);
  }
}

template <typename T>
__device__ inline void finishTile(const LinearRopeAppendArgs& a,
                                  const PairTile& tile, const BlockSums& sums,
                                  uint8_t* scratch) {
  const HeadWeight weight = weightOf(a, tile.head);
  const bool isNormed = a.headNormQ && !isValue(a, tile.head);
  for (int e = threadIdx.x; e < tile.numRows * tile.numPairs;
       e += kProductThreads) {
    const int m = e / tile.numPairs, i = e % tile.numPairs;
    const int64_t row = tile.row + m, pair = tile.pair + i;
    if (row >= a.in.rows || pair >= a.D / 2)
      continue;
    const float factor = sums.rowFactor(a.in, m);
    float x[2];
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      const int64_t element = elementOf(a, tile.head, pair, which);
      x[which] = sums.product(m, 2 * i + which) * factor;
      if (weight.bias)
        x[which] += weight.bias[weight.head * a.D + element];
      if (isNormed)
        reinterpret_cast<float*>(
            scratch)[(row * (a.H + a.KV) + tile.head) * a.D + element] =
            x[which];
    }
    if (!isNormed)
      finishPair<T>(a, row, tile.head, pair, x[0], x[1]);
  }
  if (!isNormed)
    return;
  const int64_t counter = tile.row / tile.numRows * (a.H + a.KV) + tile.head;
  if (isLastBlock(scratch, counter, tile.blocks))
    finishHead<T>(a, tile, reinterpret_cast<float*>(scratch));
}

__device__ inline void finish(const LinearRopeAppendArgs& a,
                              const PairTile& tile, const BlockSums& sums,
                              uint8_t* scratch) {
  if (isBf16(a.cacheDtype))
    finishTile<BF16>(a, tile, sums, scratch);
  else
    finishTile<float>(a, tile, sums, scratch);
}

__device__ inline PairTile pairTile(const LinearRopeAppendArgs& a, int64_t rows,
                                    int64_t cols, int64_t rowTile,
                                    int64_t colTile) {
  // As blockTile, in 32 bits: no weight is asked for before it is known.
  const int numPairs = static_cast<int>(colTile);
  const unsigned pairs = static_cast<unsigned>(colTile);
  const unsigned tiles = (static_cast<unsigned>(cols) + pairs - 1) / pairs;
  const unsigned ofHead = (static_cast<unsigned>(a.D) / 2 + pairs - 1) / pairs;
  const unsigned tile = blockIdx.x % tiles;
  return {static_cast<int>(blockIdx.x / tiles * rowTile),
          static_cast<int>(rowTile),
          static_cast<int>(tile / ofHead),
          static_cast<int>(tile % ofHead) * numPairs,
          numPairs,
          static_cast<int>(ofHead)};
}

template <typename W, int M, int R>
__device__ inline void appendByLanes(const LinearRopeAppendArgs& a,
                                     const PairTile& tile, float* shared,
                                     uint8_t* scratch) {
  auto products = [&] {
    return productsByLanes<W, M, R>(
        a.in, tile.row, 2 * tile.numPairs, shared,
        [&](int slot) { return weightAt(a, tile, slot); });
  };
  if constexpr ((M == 1 || M == 4) && !WeightRow<W>::kHasFactors) {
    finish(a, tile, products(), scratch);
  } else {
    // No register to spare: the tile waits in shared memory.
    __shared__ PairTile kept;
    if (threadIdx.x == 0)
      kept = tile;
    const BlockSums sums = products();
    finish(a, kept, sums, scratch);
  }
}

/// M rows times weights in one of two formats.
template <typename First, typename Second, int M, int R>
__device__ inline void
appendByLanes(const uint64_t* args, int64_t rows, int64_t cols, int64_t rowTile,
              int64_t colTile, WeightFormat first, uint8_t* scratch) {
  __shared__ float shared[kLaneSums<M, R>];
  const auto& a = argsOf<LinearRopeAppendArgs>(args);
  const PairTile tile = pairTile(a, rows, cols, rowTile, colTile);
  allowNextLaunch();
  if (tile.row >= a.in.rows)
    return waitForPreviousLaunch();
  if (a.in.dtype == static_cast<int64_t>(first))
    appendByLanes<First, M, R>(a, tile, shared, scratch);
  else
    appendByLanes<Second, M, R>(a, tile, shared, scratch);
}

} // namespace llmrt::cuda
