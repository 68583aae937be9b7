// SPDX-License-Identifier: Apache-2.0
// fused_linear on CUDA for more than 16 rows: what a library of matrix products
// has epilogues for, where there is none. y = residual + gelu(x w0^T + bias0),
// each part if it is there.
//
// Constraints  dtype bf16 (fused_linear_many; fused_linear_many_of_bf16, where
// x is bf16 too) or f32 (fused_linear_many_f32); no norm, no second weight, no
// soft cap, no other activation. Alias  y may be residual.    Scratch  none.
#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/kernels/cuda/LinearManyRows.cuh"
#include "runtime/kernels/cuda/LinearManyRowsF32.cuh"

namespace llmrt::cuda {

/// x * (1 + tanh(t)) / 2 = x / (1 + e^-2t): short, as every sum of a thread has
/// its copy.
__device__ inline float geluByTanh(float x) {
  const float t = 0.79788456080286536f * (x + 0.044715f * (x * x * x));
  return x / (1.0f + expOf(-2.0f * t));
}

__device__ inline void storeFused(const FusedLinearArgs& a, int64_t row,
                                  int64_t col, float sum) {
  float value = a.bias0 ? sum + a.bias0[col] : sum;
  if (a.activation)
    value = geluByTanh(value);
  a.y[row * a.ldy + col] =
      a.residual ? a.residual[row * a.ldr + col] + value : value;
}

template <typename X>
__device__ inline void fusedLinearMany(const uint64_t* args, int64_t rows,
                                       int64_t cols, int64_t rowTile,
                                       int64_t colTile) {
  const auto& a = argsOf<FusedLinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  if (grid.rowBegin >= a.in.rows)
    return;
  multiplyManyRows<X>(a.in, WeightTile{a.w0, a.y, a.N, a.ldy, grid.colBegin},
                      grid.rowBegin, /*vectors=*/true,
                      [&](int64_t row, int64_t col, float sum) {
                        storeFused(a, row, col, sum);
                      });
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(fused_linear_many, 256) {
  llmrt::cuda::fusedLinearMany<float>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(fused_linear_many_of_bf16, 256) {
  using namespace llmrt::cuda;
  fusedLinearMany<BF16>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(fused_linear_many_f32, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::FusedLinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  if (grid.rowBegin >= a.in.rows)
    return;
  multiplyManyRowsF32(a.in, WeightTile{a.w0, a.y, a.N, a.ldy, grid.colBegin},
                      grid.rowBegin, [&](int64_t row, int64_t col, float sum) {
                        storeFused(a, row, col, sum);
                      });
}
