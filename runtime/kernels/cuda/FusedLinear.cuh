// SPDX-License-Identifier: Apache-2.0
// fused_linear for any format of weights: which slot is which row of weights,
// and what happens to the sums. FewRowProducts.cuh has the products.
#pragma once

#include "runtime/kernels/cuda/FewRowProducts.cuh"

namespace llmrt::cuda {

// Numbers of llm.activation, plus 1.
__device__ inline float activated(int64_t kind, float x) {
  switch (kind) {
  case 1: // silu
    return x / (1.0f + expf(-x));
  case 2: // gelu
    return x * 0.5f * (1.0f + erff(x * 0.70710678118654752f));
  case 3: { // gelu_tanh
    const float inner = 0.79788456080286536f * (x + 0.044715f * (x * x * x));
    return x * 0.5f * (1.0f + tanhf(inner));
  }
  case 4: // relu
    return x > 0.0f ? x : 0.0f;
  default:
    return x;
  }
}

/// Where a block works: rows from `row`, outputs from `col`.
struct OutputTile {
  int64_t row;
  int64_t col;
  int numRows;
  int numOutputs;
  int64_t blocks; // of one tile of rows
};

__device__ inline WeightPlace weightAt(const FusedLinearArgs& a,
                                       const OutputTile& tile, int slot) {
  const bool isPair = a.count == 2;
  const int64_t n = least(tile.col + (isPair ? slot / 2 : slot), a.N - 1);
  return {isPair && slot % 2 == 1 ? a.w1 : a.w0, n, a.N};
}

__device__ inline float outputOf(const FusedLinearArgs& a,
                                 const BlockSums& sums, int m, int i,
                                 int64_t n) {
  const float factor = sums.rowFactor(a.in, m);
  const int count = static_cast<int>(a.count);
  float value = sums.product(m, i * count) * factor;
  if (a.bias0)
    value += a.bias0[n];
  value = activated(a.activation, value);
  if (count == 2) {
    float partner = sums.product(m, i * count + 1) * factor;
    if (a.bias1)
      partner += a.bias1[n];
    value *= partner;
  }
  const float softcap = static_cast<float>(a.softcap);
  return softcap == 0.0f ? value : softcap * tanhf(value / softcap);
}

/// Norms the rows that all blocks have left in y.
__device__ inline void normRows(const FusedLinearArgs& a,
                                const OutputTile& tile) {
  for (int m = threadIdx.x / kWarpLanes; m < tile.numRows; m += kProductWarps) {
    const int64_t row = tile.row + m;
    if (row >= a.in.rows)
      break;
    float* y = a.y + row * a.ldy;
    normByWarp(y, a.N, a.postEps, a.postWeight, a.postOffset,
               [&](int64_t n, float value) {
                 y[n] =
                     a.residual ? a.residual[row * a.ldr + n] + value : value;
               });
  }
}

__device__ inline void writeOutputs(const FusedLinearArgs& a,
                                    const OutputTile& tile,
                                    const BlockSums& sums, uint8_t* scratch) {
  const bool isNormed = a.postWeight != nullptr;
  for (int e = threadIdx.x; e < tile.numRows * tile.numOutputs;
       e += kProductThreads) {
    const int m = e / tile.numOutputs, i = e % tile.numOutputs;
    const int64_t row = tile.row + m, n = tile.col + i;
    if (row >= a.in.rows || n >= a.N)
      continue;
    float value = outputOf(a, sums, m, i, n);
    if (a.residual && !isNormed)
      value = a.residual[row * a.ldr + n] + value;
    a.y[row * a.ldy + n] = value;
  }
  if (isNormed && isLastBlock(scratch, tile.row / tile.numRows, tile.blocks))
    normRows(a, tile);
}

__device__ inline OutputTile outputTile(int64_t rows, int64_t cols,
                                        int64_t rowTile, int64_t colTile) {
  // As blockTile, in 32 bits: no weight is asked for before it is known.
  const unsigned outputs = static_cast<unsigned>(colTile);
  const unsigned tiles = (static_cast<unsigned>(cols) + outputs - 1) / outputs;
  return {blockIdx.x / tiles * rowTile, blockIdx.x % tiles * colTile,
          static_cast<int>(rowTile), static_cast<int>(colTile), tiles};
}

template <typename W, int M, int R>
__device__ inline void fusedByLanes(const FusedLinearArgs& a,
                                    const OutputTile& tile, float* shared,
                                    uint8_t* scratch) {
  const int slots = tile.numOutputs * static_cast<int>(a.count);
  const BlockSums sums =
      productsByLanes<W, M, R>(a.in, tile.row, slots, shared, [&](int slot) {
        return weightAt(a, tile, slot);
      });
  writeOutputs(a, tile, sums, scratch);
}

/// M rows times weights in one of two formats.
template <typename First, typename Second, int M, int R>
__device__ inline void
fusedByLanes(const uint64_t* args, int64_t rows, int64_t cols, int64_t rowTile,
             int64_t colTile, WeightFormat first, uint8_t* scratch) {
  __shared__ float shared[kLaneSums<M, R>];
  const auto& a = argsOf<FusedLinearArgs>(args);
  const OutputTile tile = outputTile(rows, cols, rowTile, colTile);
  allowNextLaunch();
  if (tile.row >= a.in.rows)
    return waitForPreviousLaunch();
  if (a.in.dtype == static_cast<int64_t>(first))
    fusedByLanes<First, M, R>(a, tile, shared, scratch);
  else
    fusedByLanes<Second, M, R>(a, tile, shared, scratch);
}

} // namespace llmrt::cuda
