// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/cuda/CommKernels.h"

#include "runtime/comm/cuda/PeerSum.cuh"
#include "runtime/comm/cuda/SumLimits.h"

#include <cuda_bf16.h>

namespace llmrt {
namespace {

// One thread. The count stays on the device: reading it over the bus would take
// longer than all the rest.
__global__ void markProgress(volatile uint64_t* word, uint32_t* count,
                             uint32_t number) {
  uint32_t next = *count + 1;
  *count = next;
  *word = (uint64_t{next} << 32) | number;
  __threadfence_system();
}

struct Blocks {
  const void* data[kMaxSummands];
};

__device__ float widen(float value) { return value; }

__device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

__device__ void store(float& to, float sum) { to = sum; }

__device__ void store(__nv_bfloat16& to, float sum) {
  to = __float2bfloat16_rn(sum);
}

// `out` may be one of the blocks: a thread reads its element of all of them
// before it writes.
template <typename Element>
__global__ void addInRankOrder(Element* out, Blocks blocks, int numBlocks,
                               int64_t numElements) {
  int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
       i < numElements; i += stride) {
    float sum = widen(static_cast<const Element*>(blocks.data[0])[i]);
    for (int r = 1; r < numBlocks; ++r)
      sum += widen(static_cast<const Element*>(blocks.data[r])[i]);
    store(out[i], sum);
  }
}

template <typename Element>
__global__ void __launch_bounds__(kPeerSumThreads)
    peerSum(const __grid_constant__ PeerSumCall call) {
  cuda::sumOverPeers<Element>(call);
}

/// Returns what a launch says. Errors of earlier calls, which said them
/// themselves, are still kept by the library: this forgets them.
template <typename Launch>
int resultOf(const Launch& launch) {
  (void)cudaGetLastError();
  launch();
  return cudaGetLastError();
}

} // namespace

int launchSumOverPeers(void* stream, const PeerSumCall& call) {
  auto* on = static_cast<cudaStream_t>(stream);
  const int grid = peerSumBlocks(call);
  return resultOf([&] {
    if (call.isBf16)
      peerSum<cuda::BF16><<<grid, kPeerSumThreads, 0, on>>>(call);
    else
      peerSum<float><<<grid, kPeerSumThreads, 0, on>>>(call);
  });
}

int launchMark(void* stream, uint64_t* word, uint32_t* count, uint32_t number) {
  return resultOf([&] {
    markProgress<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(word, count,
                                                                 number);
  });
}

int launchAddInRankOrder(void* stream, void* out, const void* const* blocks,
                         int numBlocks, int64_t numElements, bool isBf16) {
  constexpr int kThreads = 256;
  constexpr int64_t kMostBlocks = 1024;
  Blocks all = {};
  for (int r = 0; r < numBlocks; ++r)
    all.data[r] = blocks[r];
  int64_t wanted = (numElements + kThreads - 1) / kThreads;
  auto grid =
      static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
  auto* on = static_cast<cudaStream_t>(stream);
  return resultOf([&] {
    if (isBf16)
      addInRankOrder<<<grid, kThreads, 0, on>>>(
          static_cast<__nv_bfloat16*>(out), all, numBlocks, numElements);
    else
      addInRankOrder<<<grid, kThreads, 0, on>>>(static_cast<float*>(out), all,
                                                numBlocks, numElements);
  });
}

} // namespace llmrt
