// SPDX-License-Identifier: Apache-2.0
// linear_input_gradient on CUDA for bf16 weights: tensor cores over tiles of
// 128 rows x 128 columns; dy is rounded to bf16 (nearest even), sums are f32.
//
// Constraints  dtype bf16; layout RowMajor; dy f32, or bf16 in
// linear_input_gradient_of_bf16.    Scratch  none.
#include "runtime/kernels/cuda/GradientTile.cuh"

namespace llmrt::cuda {

template <typename T>
__device__ inline void inputGradient(const uint64_t* args, int64_t rows,
                                     int64_t cols, int64_t rowTile,
                                     int64_t colTile) {
  const auto& a = argsOf<llmrt::LinearInputGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  if (tile.rowBegin >= a.rows)
    return;
  GradientSums sums = {};
  multiplyFactors<false>(Factor<T>(a.dy, a.lddy, a.rows, a.N),
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

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_input_gradient, 256, 2) {
  llmrt::cuda::inputGradient<float>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(linear_input_gradient_of_bf16, 256, 2) {
  using namespace llmrt::cuda;
  inputGradient<BF16>(args, rows, cols, rowTile, colTile);
}
