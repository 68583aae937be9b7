// SPDX-License-Identifier: Apache-2.0
// token_weights on CUDA: a thread for each row.
//
// Constraints  count is not 0 where a label counts.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(token_weights, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::TokenWeightsArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t end = least(tile.rowEnd, a.rows);
  for (int64_t r = tile.rowBegin + threadIdx.x; r < end; r += blockDim.x)
    a.weights[r] = a.labels[r] < 0 ? 0.0f : 1.0f / a.count[0];
}
