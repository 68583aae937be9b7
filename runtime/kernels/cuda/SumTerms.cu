// SPDX-License-Identifier: Apache-2.0
// sum_terms on CUDA: one block, with the bits of the cpu kernel.
//
// Constraints  count < 2^40.    Scratch  none.
#include "runtime/kernels/cuda/SumTree.cuh"

LLMRT_CUDA_ENTRY(sum_terms, 256) {
  using namespace llmrt::cuda;
  __shared__ double parts[llmrt::kCudaTreeThreads];
  const auto& a = argsOf<llmrt::SumTermsArgs>(args);
  const double sum = sumTreeOfBlock(a.terms, a.count, parts);
  if (threadIdx.x == 0)
    a.out[a.index] = sum;
}
