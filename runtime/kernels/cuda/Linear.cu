// SPDX-License-Identifier: Apache-2.0
// linear on CUDA for more than 16 rows and bf16 weights (LinearManyRows.cuh).
// f32 weights (`linear_f32`): plain f32 products over tiles of 64 x 64 x 16.
//
// Constraints  dtype bf16; layout RowMajor; no slots; x f32, or bf16 and any
// number of rows in linear_of_bf16.    Scratch  none.
#include "runtime/kernels/cuda/LinearManyRows.cuh"

namespace llmrt::cuda {

template <typename X>
__device__ inline void linear(const uint64_t* args, int64_t rows, int64_t cols,
                              int64_t rowTile, int64_t colTile) {
  const auto& a = argsOf<LinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  const WeightTile tile = weightTileAt(a, grid.colBegin, colTile);
  if (grid.rowBegin >= a.rows || tile.N == 0)
    return;
  multiplyManyRows<X>(a, tile, grid.rowBegin,
                      readsVectors<BF16>(a, tile.w) && a.ldx % kVector<X> == 0,
                      [&](int64_t row, int64_t col, float sum) {
                        tile.y[row * tile.ldy + col] = sum;
                      });
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear, 256) {
  llmrt::cuda::linear<float>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(linear_of_bf16, 256) {
  using namespace llmrt::cuda;
  linear<BF16>(args, rows, cols, rowTile, colTile);
}
