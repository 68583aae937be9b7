// SPDX-License-Identifier: Apache-2.0
// linear_weight_gradient on CUDA for bf16 weights: tensor cores over tiles of
// 128 outputs x 128 inputs; dy and x are rounded to bf16 (nearest even), sums
// over rows, and what they are added to, are f32.
//
// Constraints  dtype bf16; layout RowMajor.    Scratch  none.
#include "runtime/kernels/cuda/GradientTile.cuh"

LLMRT_CUDA_ENTRY(linear_weight_gradient, 256, 2) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearWeightGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t N = least(a.N, a.outputs), K = a.K;
  if (tile.rowBegin >= N)
    return;
  const int64_t validN = least(a.validN, N), validK = least(a.validK, K);
  GradientSums sums = {};
  multiplyFactors<true>(Factor<float>(a.dy, a.lddy, a.rows, validN),
                        Factor<float>(a.x, a.ldx, a.rows, validK),
                        tile.rowBegin, tile.colBegin, a.rows, sums);
  float* out = a.out;
  const bool accumulate = a.accumulate != 0;
  forSums(
      sums, threadIdx.x % kWarpLanes, threadIdx.x / kWarpLanes,
      [&](int row, int col, float sum) {
        const int64_t n = tile.rowBegin + row, k = tile.colBegin + col;
        if (n >= N || k >= K)
          return;
        float* to = out + n * K + k;
        *to = n >= validN || k >= validK ? 0.0f : accumulate ? *to + sum : sum;
      });
}
