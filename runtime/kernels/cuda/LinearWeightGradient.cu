// SPDX-License-Identifier: Apache-2.0
// linear_weight_gradient on CUDA for bf16 weights: tensor cores over tiles of
// 128 outputs x 128 inputs; dy and x are rounded to bf16 (nearest even), sums
// over rows, and what they are added to, are f32.
//
// Constraints  dtype bf16; layout RowMajor; dy and x f32, or bf16 in
// linear_weight_gradient_of_bf16.    Scratch  none.
#include "runtime/kernels/cuda/GradientTile.cuh"

namespace llmrt::cuda {

template <typename T>
__device__ inline void weightGradient(const uint64_t* args, int64_t rows,
                                      int64_t cols, int64_t rowTile,
                                      int64_t colTile) {
  const auto& a = argsOf<llmrt::LinearWeightGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t N = least(a.N, a.outputs), K = a.K;
  if (tile.rowBegin >= N)
    return;
  const int64_t validN = least(a.validN, N), validK = least(a.validK, K);
  GradientSums sums = {};
  multiplyFactors<true>(Factor<T>(a.dy, a.lddy, a.rows, validN),
                        Factor<T>(a.x, a.ldx, a.rows, validK), tile.rowBegin,
                        tile.colBegin, a.rows, sums);
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

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_weight_gradient, 256, 2) {
  llmrt::cuda::weightGradient<float>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(linear_weight_gradient_of_bf16, 256, 2) {
  using namespace llmrt::cuda;
  weightGradient<BF16>(args, rows, cols, rowTile, colTile);
}
