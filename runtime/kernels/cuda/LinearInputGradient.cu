// SPDX-License-Identifier: Apache-2.0
// linear_input_gradient on CUDA for bf16 weights: tensor cores over tiles of
// 128 rows x 128 columns; dy is rounded to bf16 (nearest even), sums are f32.
//
// Constraints  dtype bf16; layout RowMajor.    Scratch  none.
#include "runtime/kernels/cuda/GradientTile.cuh"

LLMRT_CUDA_ENTRY(linear_input_gradient, 256, 2) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::LinearInputGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  if (tile.rowBegin >= a.rows)
    return;
  GradientSums sums = {};
  multiplyFactors<false>(Factor<float>(a.dy, a.lddy, a.rows, a.N),
                         Factor<BF16>(a.w, a.K, a.N, a.K), tile.rowBegin,
                         tile.colBegin, a.N, sums);
  const int64_t numRows = a.rows, K = a.K, ld = a.lddx;
  float* dx = a.dx;
  forSums(sums, threadIdx.x % kWarpLanes, threadIdx.x / kWarpLanes,
          [&](int row, int col, float sum) {
            const int64_t r = tile.rowBegin + row, k = tile.colBegin + col;
            if (r < numRows && k < K)
              dx[r * ld + k] = sum;
          });
}
