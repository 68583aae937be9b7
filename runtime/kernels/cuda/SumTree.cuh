// SPDX-License-Identifier: Apache-2.0
// The sum of doubles by the pairwise tree of runtime/kernels/SumTree.h, with
// its bits, by the threads of a block.
#pragma once

#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {

/// Sums without a partner, by level: a sum of 2^level terms.
inline constexpr int kTreeLevels = 40;

/// Pairs neighbours, then pairs of pairs; sums without a partner wait for the
/// end and are added to `rest` from the last to the first.
__device__ inline double sumTree(const double* x, int64_t count, double rest) {
  double waiting[kTreeLevels];
  for (int64_t i = 0; i < count; ++i) {
    double sum = x[i];
    int level = 0;
    for (; i >> level & 1; ++level)
      sum = waiting[level] + sum;
    waiting[level] = sum;
  }
  for (int level = 0; count >> level > 0; ++level)
    if (count >> level & 1)
      rest = waiting[level] + rest;
  return rest;
}

/// The same by all threads of a block: each a subtree of the least power of two
/// of terms that leaves no more subtrees than threads. The first thread gets
/// the sum. `parts` is shared memory for kCudaTreeThreads numbers.
__device__ inline double sumTreeOfBlock(const double* x, int64_t count,
                                        double* parts) {
  int64_t size = 1;
  while (size * blockDim.x < count)
    size *= 2;
  const int64_t begin = threadIdx.x * size;
  if (begin < count)
    parts[threadIdx.x] = sumTree(x + begin, least(size, count - begin), 0.0);
  __syncthreads();
  if (threadIdx.x > 0)
    return 0.0;
  // The last subtree may be a part of one: what waits for the end.
  const int64_t whole = count / size;
  return sumTree(parts, whole, count % size > 0 ? parts[whole] : 0.0);
}

} // namespace llmrt::cuda
