// SPDX-License-Identifier: Apache-2.0
// count_labels on CUDA: one block; threads take units in turn. The number is
// exact in f32.
//
// Constraints  unit divides rows, rows < 2^24.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(count_labels, 256) {
  using namespace llmrt::cuda;
  __shared__ float places[8];
  const auto& a = argsOf<llmrt::CountLabelsArgs>(args);
  const int64_t unit = a.unit;
  float count = 0.0f;
  for (int64_t r = threadIdx.x * unit; r < a.rows; r += blockDim.x * unit) {
    bool isCounted = false;
    for (int64_t i = r; i < r + unit && !isCounted; ++i)
      isCounted = a.labels[i] >= 0;
    count += isCounted ? 1.0f : 0.0f;
  }
  count = sumOfBlock(count, places);
  if (threadIdx.x == 0)
    a.out[0] = count;
}
