// SPDX-License-Identifier: Apache-2.0
// linear on CUDA for more than 16 rows and bf16 weights (LinearManyRows.cuh).
// f32 weights (`linear_f32`): plain f32 products over tiles of 64 x 64 x 16.
//
// Constraints  dtype bf16; layout RowMajor; no slots.    Scratch  none.
#include "runtime/kernels/cuda/LinearManyRows.cuh"

LLMRT_CUDA_ENTRY(linear, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  const WeightTile tile = weightTileAt(a, grid.colBegin, colTile);
  if (grid.rowBegin >= a.rows || tile.N == 0)
    return;
  multiplyManyRows(a, tile, grid.rowBegin, readsVectors<BF16>(a, tile.w),
                   [&](int64_t row, int64_t col, float sum) {
                     tile.y[row * tile.ldy + col] = sum;
                   });
}
