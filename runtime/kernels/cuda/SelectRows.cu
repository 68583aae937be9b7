// SPDX-License-Identifier: Apache-2.0
// select_rows on CUDA: one block copies the last valid row of one sequence.
// Scratch  none.
#include "runtime/kernels/cuda/Cuda.cuh"

LLMRT_CUDA_ENTRY(select_rows, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::SelectRowsArgs>(args);
  const int64_t s = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (s >= a.S)
    return;
  const int64_t row = s * a.R + greatest(a.validRows[s], 1) - 1;
  const float* from = a.x + row * a.C;
  float* to = a.out + s * a.C;
  for (int64_t c = threadIdx.x; c < a.C; c += blockDim.x)
    to[c] = from[c];
}
