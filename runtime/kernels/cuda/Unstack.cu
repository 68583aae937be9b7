// SPDX-License-Identifier: Apache-2.0
// unstack on CUDA: one block joins one row of what T ranks gathered.    Scratch
// none.
#include "runtime/kernels/cuda/Cuda.cuh"

LLMRT_CUDA_ENTRY(unstack, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::UnstackArgs>(args);
  const int64_t row = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (row >= a.rows)
    return;
  for (int64_t part = 0; part < a.T; ++part) {
    const float* from = a.in + (part * a.rowStride + row) * a.Cl;
    float* to = a.out + row * a.C + part * a.Cl;
    const int64_t count = least(a.Cl, a.C - part * a.Cl);
    for (int64_t c = threadIdx.x; c < count; c += blockDim.x)
      to[c] = from[c];
  }
}
