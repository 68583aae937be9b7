// SPDX-License-Identifier: Apache-2.0
// global_norm on CUDA: one block, with the bits of the cpu kernel.
//
// Constraints  count < 2^40.    Scratch  none.
#include "runtime/kernels/cuda/SumTree.cuh"

LLMRT_CUDA_ENTRY(global_norm, 256) {
  using namespace llmrt::cuda;
  __shared__ double parts[llmrt::kCudaTreeThreads];
  const auto& a = argsOf<llmrt::GlobalNormArgs>(args);
  const double sum = sumTreeOfBlock(a.blocks, a.count, parts);
  if (threadIdx.x > 0)
    return;
  constexpr float largest = 3.402823466e+38f;
  const float norm = static_cast<float>(sqrt(sum));
  const bool isFinite = norm <= largest; // false for a NaN
  const float clip = a.hyper[7];
  const float factor = clip > 0.0f ? clip / (norm + 1e-6f) : 1.0f;
  a.out[0] = norm;
  a.out[1] = !isFinite ? 0.0f : factor < 1.0f ? factor : 1.0f;
  a.out[2] = isFinite ? 1.0f : 0.0f;
  a.out[3] = 0.0f;
}
