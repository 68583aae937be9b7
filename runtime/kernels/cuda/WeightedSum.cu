// SPDX-License-Identifier: Apache-2.0
// weighted_sum on CUDA: one block, in double. Rows of weight 0 add nothing,
// whatever their loss.
//
// Constraints  none.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(weighted_sum, 256) {
  using namespace llmrt::cuda;
  __shared__ double places[8];
  const auto& a = argsOf<llmrt::WeightedSumArgs>(args);
  double sum = 0.0;
  for (int64_t r = threadIdx.x; r < a.rows; r += blockDim.x)
    if (a.weights[r] != 0.0f)
      sum += static_cast<double>(a.x[r]) * a.weights[r];
  sum = sumOfBlock(sum, places);
  if (threadIdx.x == 0)
    a.out[0] = static_cast<float>((a.accumulate ? a.out[0] : 0.0) + sum);
}
