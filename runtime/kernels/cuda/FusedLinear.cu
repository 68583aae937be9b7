// SPDX-License-Identifier: Apache-2.0
// fused_linear: up to 16 rows, normed, times one weight or a gate and its
// partner, with bias, activation, soft cap, norm and residual behind it, all
// chosen by words. Weights in f32 and bf16; FusedLinearQuantized.cu has those
// in blocks.
//
// A slot is an output, or with two weights every other slot is the gate's and
// the next one its partner's. A norm behind the product needs whole rows: the
// last block of a row that finishes makes it, from y, where all have left
// their outputs.
//
// Constraints  those of Kernels.def; K elements a multiple of 16 bytes, ldx of
// 4; x, norm vectors and weights aligned to 16 bytes. Tile: rows of the form,
// and as many outputs as leave no warp without work.    Scratch  none; with
// postWeight a counter for each tile of rows.
#include "runtime/kernels/cuda/FewRowMatrices.cuh"
#include "runtime/kernels/cuda/FusedLinear.cuh"

namespace llmrt::cuda {
namespace {

template <int T>
__device__ inline void fusedByMatrices(const uint64_t* args, int64_t rows,
                                       int64_t cols, int64_t rowTile,
                                       int64_t colTile, uint8_t* scratch) {
  __shared__ float shared[kMatrixSums<T>];
  const auto& a = argsOf<FusedLinearArgs>(args);
  const OutputTile tile = outputTile(rows, cols, rowTile, colTile);
  allowNextLaunch();
  if (tile.row >= a.in.rows)
    return waitForPreviousLaunch();
  const BlockSums sums =
      productsByMatrices<T>(a.in, tile.row, shared,
                            [&](int slot) { return weightAt(a, tile, slot); });
  writeOutputs(a, tile, sums, scratch);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(fused_linear_rows_1, 256, 2) {
  llmrt::cuda::fusedByLanes<llmrt::cuda::BF16, float, 1, 4>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(fused_linear_rows_2, 256, 2) {
  llmrt::cuda::fusedByLanes<llmrt::cuda::BF16, float, 2, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(fused_linear_rows_4, 256, 1) {
  llmrt::cuda::fusedByLanes<llmrt::cuda::BF16, float, 4, 4>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(fused_linear_rows_8, 256, 1) {
  llmrt::cuda::fusedByLanes<llmrt::cuda::BF16, float, 8, 4>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(fused_linear_mma_8, 256, 2) {
  llmrt::cuda::fusedByMatrices<1>(args, rows, cols, rowTile, colTile, scratch);
}

LLMRT_CUDA_ENTRY(fused_linear_mma_16, 256, 2) {
  llmrt::cuda::fusedByMatrices<2>(args, rows, cols, rowTile, colTile, scratch);
}
