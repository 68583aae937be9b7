// SPDX-License-Identifier: Apache-2.0
// What the CUDA kernels of the training step share: flat memory walked 16 bytes
// at a time, and sums over a block.
#pragma once

#include "runtime/kernels/TrainingKernelArgs.h"
#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// Elements of flat f32 memory that one block of a kernel over flat memory
/// takes.
inline constexpr int64_t kFlatElements = kCudaFlatElements;

/// Calls four(i) for each whole group of 4 elements of [begin, end), and one(i)
/// for each of the rest. With `vectors` false, one(i) for all.
template <typename Four, typename One>
__device__ inline void walkFlat(int64_t begin, int64_t end, bool vectors,
                                const Four& four, const One& one) {
  int64_t rest = begin;
  if (vectors && begin < end) {
    rest = begin + (end - begin) / 4 * 4;
    for (int64_t i = begin + threadIdx.x * 4; i < rest; i += blockDim.x * 4)
      four(i);
  }
  for (int64_t i = rest + threadIdx.x; i < end; i += blockDim.x)
    one(i);
}

__device__ inline void loadFour(const float* from, float (&out)[4]) {
  widenVector(load16(from), from, out);
}

__device__ inline void storeFour(const float (&x)[4], float* to) {
  *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
}

/// Adds over the block: lanes, then warps in their order. All threads get the
/// sum. `places` is shared memory for one number of each warp.
template <typename T>
__device__ inline T sumOfBlock(T x, T* places) {
  x = sumOfLanes(x);
  __syncthreads(); // what was there before is read
  if (threadIdx.x % kWarpLanes == 0)
    places[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  T total = places[0];
  for (int warp = 1; warp < static_cast<int>(blockDim.x) / kWarpLanes; ++warp)
    total += places[warp];
  return total;
}

} // namespace llmrt::cuda
