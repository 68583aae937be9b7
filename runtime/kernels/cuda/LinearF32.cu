// SPDX-License-Identifier: Apache-2.0
// linear on CUDA for more than 16 rows and f32 weights (LinearManyRowsF32.cuh).
//
// Constraints  dtype f32; layout RowMajor; no slots.    Scratch  none.
#include "runtime/kernels/cuda/LinearManyRowsF32.cuh"

LLMRT_CUDA_ENTRY(linear_f32, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  const WeightTile tile = weightTileAt(a, grid.colBegin, colTile);
  if (grid.rowBegin >= a.rows || tile.N == 0)
    return;
  multiplyManyRowsF32(a, tile, grid.rowBegin,
                      [&](int64_t row, int64_t col, float sum) {
                        tile.y[row * tile.ldy + col] = sum;
                      });
}
