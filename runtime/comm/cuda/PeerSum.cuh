// SPDX-License-Identifier: Apache-2.0
// The kernel of PeerSum.h. Blocks of one number on all ranks belong together
// and wait for no others, so they need not run at the same time as those.
//
// A block writes its elements to its own memory and then, with release at
// system scope, its turn into the memory of every other rank; it reads theirs
// after an acquire of their turns. It writes the same place again two turns
// later: then every rank has told that it began the turn between, behind its
// reads. Whoever waits looks at a word of the host now and then, so that a rank
// that never comes does not keep the GPU.
#pragma once

#include "runtime/comm/cuda/PeerSum.h"
#include "runtime/comm/cuda/SystemScope.cuh"
#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// What a rank writes when a block has come: a rank that makes another call is
/// waited for in vain, which the host's watchers find.
__device__ inline uint64_t arrivalOf(const PeerSumCall& call, uint32_t turn) {
  return static_cast<uint64_t>(turn) << 32 |
         static_cast<uint32_t>(call.numElements * 2 + call.isBf16);
}

/// True if `seen` is this turn's arrival, or that of the next one: who has
/// begun that was content with this turn.
__device__ inline bool hasArrived(uint64_t seen, uint64_t wanted) {
  return seen == wanted ||
         static_cast<int32_t>((seen >> 32) - (wanted >> 32)) > 0;
}

/// Returns false if the host ends it.
__device__ inline bool waitForPeer(const uint64_t* flag, uint64_t wanted,
                                   const uint32_t* isAborted) {
  for (int look = 1; !hasArrived(loadAcquireSystem(flag), wanted); ++look) {
    pauseSpin();
    if (look % kLooksForHost == 0 && loadSystem(isAborted) != 0)
      return false;
  }
  return true;
}

__device__ inline void markPeerSum(const PeerSumCall& call, uint64_t* word,
                                   uint32_t* count) {
  const uint32_t next = *count + 1;
  *count = next;
  storeReleaseSystem(word, static_cast<uint64_t>(next) << 32 | call.number);
}

template <typename Element>
__device__ inline void addTo(float (&sum)[kVector<Element>], uint4 raw,
                             bool isFirst) {
  float values[kVector<Element>];
  widenVector(raw, static_cast<const Element*>(nullptr), values);
#pragma unroll
  for (int i = 0; i < kVector<Element>; ++i)
    sum[i] = isFirst ? values[i] : sum[i] + values[i];
}

template <typename Element>
__device__ inline void sumOverPeers(const PeerSumCall& call) {
  constexpr int kElements = kVector<Element>;
  __shared__ int isEnded;
  const unsigned block = blockIdx.x;
  PeerMemory& own = *call.peers[call.rank];
  const uint32_t turn = own.turns[block] + 1;
  if (threadIdx.x == 0) {
    isEnded = 0;
    if (block == 0)
      markPeerSum(call, call.beginWord, call.beginCount);
  }
  const int64_t first =
      (static_cast<int64_t>(block) * kPeerSumThreads + threadIdx.x) * kElements;
  const int64_t offset = static_cast<int64_t>(threadIdx.x) * 16;
  Element* data = static_cast<Element*>(call.data) + first;
  auto* staged =
      reinterpret_cast<Element*>(own.staging[turn % 2][block] + offset);
  const bool isWhole =
      first + kElements <= call.numElements && isAligned16(data);
  if (isWhole)
    *reinterpret_cast<uint4*>(staged) = load16(data);
  else
    for (int i = 0; i < kElements && first + i < call.numElements; ++i)
      staged[i] = data[i];
  __syncthreads();
  const uint64_t arrival = arrivalOf(call, turn);
  const int peer = static_cast<int>(threadIdx.x);
  if (peer < call.numRanks)
    storeReleaseSystem(&call.peers[peer]->arrived[block][call.rank], arrival);
  if (peer < call.numRanks &&
      !waitForPeer(&own.arrived[block][peer], arrival, call.isAborted))
    isEnded = 1;
  __syncthreads();
  if (isEnded)
    return;
  float sum[kElements];
  for (int r = 0; r < call.numRanks; ++r)
    addTo<Element>(
        sum, load16(call.peers[r]->staging[turn % 2][block] + offset), r == 0);
  if (isWhole) {
    if constexpr (sizeof(Element) == 4)
      *reinterpret_cast<uint4*>(data) =
          make_uint4(bitsOfFloat(sum[0]), bitsOfFloat(sum[1]),
                     bitsOfFloat(sum[2]), bitsOfFloat(sum[3]));
    else
      *reinterpret_cast<uint4*>(data) =
          make_uint4(packBf16(sum[0], sum[1]), packBf16(sum[2], sum[3]),
                     packBf16(sum[4 % kElements], sum[5 % kElements]),
                     packBf16(sum[6 % kElements], sum[7 % kElements]));
  } else {
#pragma unroll
    for (int i = 0; i < kElements; ++i)
      if (first + i < call.numElements)
        narrowTo(sum[i], data + i);
  }
  __syncthreads();
  if (threadIdx.x != 0)
    return;
  own.turns[block] = turn;
  __threadfence();
  if (atomicInc(&own.blocksDone, gridDim.x - 1) == gridDim.x - 1)
    markPeerSum(call, call.endWord, call.endCount);
}

} // namespace llmrt::cuda
