// SPDX-License-Identifier: Apache-2.0
// Where a token of a key/value head lies in the cache on CUDA: the pages of
// keys and of values are both [KV, kPageTokens, D] (on cpu those of keys are
// turned).
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// Returns the D elements of `position` of a sequence, for one key/value head.
template <typename T>
__device__ inline T* cacheToken(const void* cache, const int32_t* blockTable,
                                int64_t pages, int64_t sequence,
                                int64_t position, int64_t KV, int64_t D,
                                int64_t head) {
  const int64_t page = blockTable[sequence * pages + position / kPageTokens];
  return static_cast<T*>(const_cast<void*>(cache)) +
         ((page * KV + head) * kPageTokens + position % kPageTokens) * D;
}

template <typename T>
__device__ inline void writeToken(const float* x, int64_t D, T* out, int lane,
                                  int lanes) {
  for (int64_t d = lane; d < D; d += lanes)
    narrowTo(x[d], out + d);
}

} // namespace llmrt::cuda
