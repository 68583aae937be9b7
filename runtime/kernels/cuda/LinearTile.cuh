// SPDX-License-Identifier: Apache-2.0
// Which weight and which columns a block of `linear` works on: shared by its
// forms.
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// Columns [col, col + the tile's columns) of one weight.
struct WeightTile {
  const void* w; // [N, K]
  float* y;      // [rows, ldy]
  int64_t N;
  int64_t ldy;
  int64_t col;
};

/// Columns of the grid are those of the weights one after another, each rounded
/// up to whole tiles; with zip those of one weight, and blockIdx.y is the
/// weight. Returns a tile of N 0 behind the last weight.
__device__ inline WeightTile weightTileAt(const LinearArgs& a, int64_t col,
                                          int64_t colTile) {
  int64_t j = a.zip ? blockIdx.y : 0;
  if (!a.zip)
    for (; j < a.count; ++j) {
      const int64_t padded = roundUp(a.weights[j].N, colTile);
      if (col < padded)
        break;
      col -= padded;
    }
  if (j >= a.count)
    return {nullptr, nullptr, 0, 0, 0};
  return {a.weights[j].w, a.weights[j].y, a.weights[j].N, a.weights[j].ldy,
          col};
}

/// True if rows of x and of the weight can be read 16 bytes at a time.
template <typename W>
__device__ inline bool readsVectors(const LinearArgs& a, const void* w) {
  return a.K % kVector<W> == 0 && a.ldx % 4 == 0 && isAligned16(a.x) &&
         isAligned16(w);
}

} // namespace llmrt::cuda
