// SPDX-License-Identifier: Apache-2.0
// linear_weight_gradient on CUDA for f32 weights: the form that parity tests
// use.
//
// Constraints  dtype f32; layout RowMajor.    Scratch  none.
#include "runtime/kernels/cuda/GradientTileF32.cuh"

LLMRT_CUDA_ENTRY(linear_weight_gradient_f32, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearWeightGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t N = least(a.N, a.outputs), K = a.K;
  if (tile.rowBegin >= N)
    return;
  const int64_t validN = least(a.validN, N), validK = least(a.validK, K);
  PlainSums sums = {};
  multiplyPlain<true>({a.dy, a.lddy, a.rows, validN},
                      {a.x, a.ldx, a.rows, validK}, tile.rowBegin,
                      tile.colBegin, a.rows, sums);
  forPlainSums(sums, [&](int row, int col, float sum) {
    const int64_t n = tile.rowBegin + row, k = tile.colBegin + col;
    if (n >= N || k >= K)
      return;
    float* to = a.out + n * K + k;
    *to = n >= validN || k >= validK ? 0.0f : a.accumulate ? *to + sum : sum;
  });
}
