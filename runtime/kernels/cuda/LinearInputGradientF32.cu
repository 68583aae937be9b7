// SPDX-License-Identifier: Apache-2.0
// linear_input_gradient on CUDA for f32 weights: the form that parity tests
// use, with the order of additions of the cpu kernel.
//
// Constraints  dtype f32; layout RowMajor.    Scratch  none.
#include "runtime/kernels/cuda/GradientTileF32.cuh"

LLMRT_CUDA_ENTRY(linear_input_gradient_f32, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearInputGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  if (tile.rowBegin >= a.rows)
    return;
  PlainSums sums = {};
  multiplyPlain<false>({a.dy, a.lddy, a.rows, a.N},
                       {static_cast<const float*>(a.w), a.K, a.N, a.K},
                       tile.rowBegin, tile.colBegin, a.N, sums);
  forPlainSums(sums, [&](int row, int col, float sum) {
    const int64_t r = tile.rowBegin + row, k = tile.colBegin + col;
    if (r < a.rows && k < a.K)
      a.dx[r * a.lddx + k] = sum;
  });
}
