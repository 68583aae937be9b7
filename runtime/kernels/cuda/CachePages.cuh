// SPDX-License-Identifier: Apache-2.0
// Where a token of a key/value head lies in the cache on CUDA. Pages of keys
// and of values are alike, [KV, kPageTokens, D] (on cpu those of keys are
// turned). The kPageTokens x D elements of a head are rows, one behind the
// other; but where they are bf16 and D is a multiple of 64, they are panels
// (Panels.cuh): the order in which the tensor cores of sm_90a want them, so
// that a bulk copy of the whole brings a head's page. The order is the same on
// all GPUs.
#pragma once

#include "runtime/kernels/cuda/Panels.cuh"

namespace llmrt::cuda {

static_assert(kPageTokens % 8 == 0, "the pattern of panels repeats");

/// How the tokens of a page and head lie, in elements.
struct PageLayout {
  int row;   // from a token to the next
  int panel; // from 64 elements of a token to the next 64
  int mask;  // bits of a token's number that permute its pieces

  /// Returns where element d of a token lies.
  __device__ int placeOf(int token, int d) const {
    const unsigned element = d, inPanel = element % kPanelElements;
    const int piece = inPanel / kPieceElements ^ (token & mask);
    return token * row + element / kPanelElements * panel +
           piece * kPieceElements + inPanel % kPieceElements;
  }
};

__device__ inline bool isInPanels(const BF16*, int64_t D) {
  return D % kPanelElements == 0;
}

__device__ inline bool isInPanels(const float*, int64_t) { return false; }

template <typename T>
__device__ inline PageLayout pageLayout(int64_t D) {
  if (isInPanels(static_cast<const T*>(nullptr), D))
    return {kPanelElements, static_cast<int>(kPageTokens) * kPanelElements, 7};
  return {static_cast<int>(D), kPanelElements, 0};
}

/// Returns the page that has `position` of a sequence, for one key/value head.
template <typename T>
__device__ inline T* cachePage(const void* cache, const int32_t* blockTable,
                               int64_t pages, int64_t sequence,
                               int64_t position, int64_t KV, int64_t D,
                               int64_t head) {
  const int64_t page = blockTable[sequence * pages + position / kPageTokens];
  return static_cast<T*>(const_cast<void*>(cache)) +
         (page * KV + head) * kPageTokens * D;
}

/// A token of a key/value head: `token + d` is where its element d lies.
template <typename T>
struct CacheToken {
  T* page;
  PageLayout layout;
  int token; // in the page

  __device__ T* operator+(int d) const {
    return page + layout.placeOf(token, d);
  }
};

template <typename T>
__device__ inline CacheToken<T>
cacheToken(const void* cache, const int32_t* blockTable, int64_t pages,
           int64_t sequence, int64_t position, int64_t KV, int64_t D,
           int64_t head) {
  return {
      cachePage<T>(cache, blockTable, pages, sequence, position, KV, D, head),
      pageLayout<T>(D), static_cast<int>(position % kPageTokens)};
}

template <typename T>
__device__ inline void writeToken(const float* x, int64_t D,
                                  const CacheToken<T>& out, int lane,
                                  int lanes) {
  for (int d = lane; d < static_cast<int>(D); d += lanes)
    narrowTo(x[d], out + d);
}

} // namespace llmrt::cuda
