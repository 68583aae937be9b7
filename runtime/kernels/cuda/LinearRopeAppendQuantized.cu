// SPDX-License-Identifier: Apache-2.0
// linear_rope_append with weights in blocks of 32 elements, 8 or 4 bits each,
// that share a factor (WeightFormat). A product of a block's elements is f32
// and takes the factor once. One row by lanes, 2 to 16 by tensor cores
// (FewRowQuantizedMatrices.cuh).
//
// Constraints  those of LinearRopeAppend.cu, with K a multiple of 32.
// Scratch  as there.
#include "runtime/kernels/cuda/FewRowQuantizedMatrices.cuh"
#include "runtime/kernels/cuda/LinearRopeAppend.cuh"

namespace llmrt::cuda {
namespace {

template <int T>
__device__ inline void appendByBlocks(const uint64_t* args, int64_t rows,
                                      int64_t cols, int64_t rowTile,
                                      int64_t colTile, uint8_t* scratch) {
  const auto& a = argsOf<LinearRopeAppendArgs>(args);
  // Registers are for the products: the tile waits in shared memory.
  __shared__ PairTile tile;
  if (threadIdx.x == 0)
    tile = pairTile(a, rows, cols, rowTile, colTile);
  __syncthreads();
  allowNextLaunch();
  if (tile.row >= a.in.rows)
    return waitForPreviousLaunch();
  const BlockSums sums =
      productsByBlocks<T>(a.in, tile.row, 2 * tile.numPairs,
                          [&](int slot) { return weightAt(a, tile, slot); });
  finish(a, tile, sums, scratch);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_rows_1, 256, 2) {
  llmrt::cuda::appendByLanes<llmrt::cuda::Q8, llmrt::cuda::Q4, 1, 2>(
      args, rows, cols, rowTile, colTile, llmrt::WeightFormat::Q8_0, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_mma_8, 256, 2) {
  llmrt::cuda::appendByBlocks<1>(args, rows, cols, rowTile, colTile, scratch);
}

LLMRT_CUDA_ENTRY(linear_rope_append_quantized_mma_16, 256, 2) {
  llmrt::cuda::appendByBlocks<2>(args, rows, cols, rowTile, colTile, scratch);
}
