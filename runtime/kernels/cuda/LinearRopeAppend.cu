// SPDX-License-Identifier: Apache-2.0
// linear_rope_append: up to 16 rows, normed, times the weights of queries, keys
// and values, with bias, norm of heads, rotary embedding and cache append
// behind them. Weights in f32 and bf16; LinearRopeAppendQuantized.cu has those
// in blocks.
//
// Two neighbouring slots are a pair of a head's elements that turn together
// (or, where nothing turns, any two), so that a block needs no others of the
// head. Columns of the grid are the pairs of each head, heads in the order q,
// k, v, each rounded up to whole tiles. A norm of heads needs all of a head:
// then blocks leave their elements in scratch, and the last block of a head
// that finishes norms, turns and stores it.
//
// Constraints  those of Kernels.def; D and rotary even; K elements a multiple
// of 16 bytes, ldx of 4; x, norm vectors and weights aligned to 16 bytes.
// Scratch with headNormQ: [rows, H + KV, D] f32, a counter for each tile of
// rows and head; else none.
#include "runtime/kernels/cuda/FewRowMatrices.cuh"
#include "runtime/kernels/cuda/LinearRopeAppend.cuh"

namespace llmrt::cuda {
namespace {

template <int T>
__device__ inline void appendByMatrices(const uint64_t* args, int64_t rows,
                                        int64_t cols, int64_t rowTile,
                                        int64_t colTile, uint8_t* scratch) {
  __shared__ float shared[kMatrixSums<T>];
  const auto& a = argsOf<LinearRopeAppendArgs>(args);
  const PairTile tile = pairTile(a, rows, cols, rowTile, colTile);
  allowNextLaunch();
  if (tile.row >= a.in.rows)
    return waitForPreviousLaunch();
  const BlockSums sums =
      productsByMatrices<T>(a.in, tile.row, shared,
                            [&](int slot) { return weightAt(a, tile, slot); });
  finish(a, tile, sums, scratch);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_rope_append_rows_1, 256, 2) {
  llmrt::cuda::appendByLanes<llmrt::cuda::BF16, float, 1, 4>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_rows_2, 256, 2) {
  llmrt::cuda::appendByLanes<llmrt::cuda::BF16, float, 2, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_rows_4, 256, 1) {
  llmrt::cuda::appendByLanes<llmrt::cuda::BF16, float, 4, 4>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_rows_8, 256, 1) {
  llmrt::cuda::appendByLanes<llmrt::cuda::BF16, float, 8, 4>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::BF16, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_mma_8, 256, 2) {
  llmrt::cuda::appendByMatrices<1>(args, rows, cols, rowTile, colTile, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_mma_16, 256, 2) {
  llmrt::cuda::appendByMatrices<2>(args, rows, cols, rowTile, colTile, scratch);
}
