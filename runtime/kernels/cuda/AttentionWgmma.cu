// SPDX-License-Identifier: Apache-2.0
// attention on sm_90a for many rows of a sequence over a bf16 cache: wgmma. One
// block works on 128 queries of one head and walks the keys a page at a time
// (AttentionWgmmaTile.cuh). Pages come by cp.async, 16 bytes at a time, where
// the swizzle wants them.
//
// Constraints  D at most P of attention_wgmma_P; dtype of the cache bf16. Rows
// at position -1 give zeros. The cache holds every token from the first that a
// row of a tile sees to the last.    Shared memory  queries, two blocks of keys
// and of values.    Scratch  none.
#include "runtime/kernels/cuda/AttentionWgmmaTile.cuh"

namespace llmrt::cuda {
namespace {

/// Keys and values in the pages of a cache.
template <int P>
struct CachedKeys {
  const AttentionArgs& a;
  const HeadQueries& queries;
  bool vectors; // pages may be read 16 bytes at a time

  __device__ SeenTokens seen(int query) const {
    const int position = a.positions[queries.row + query];
    if (position < 0)
      return {0, 0};
    return {static_cast<int>(firstSeen(a, position)), position + 1};
  }

  __device__ void loadKeys(int block, SeenTokens tokens, uint8_t* to) const {
    load(a.keyCache, block, tokens, to);
  }

  __device__ void loadValues(int block, SeenTokens tokens, uint8_t* to) const {
    load(a.valueCache, block, tokens, to);
  }

  __device__ void finish(int, float, float) const {}

private:
  __device__ void load(const void* cache, int block, SeenTokens tokens,
                       uint8_t* to) const {
    const BF16* page =
        cacheToken<BF16>(cache, a.blockTable, a.pages, queries.sequence, block,
                         a.KV, a.D, queries.kvHead);
    const int D = static_cast<int>(a.D);
    const int first = tokens.begin - block, end = tokens.end - block;
    if (vectors)
      return copyToPanels<P>(page, D, D, kBlockKeys, first, end, to);
#pragma unroll 1
    for (int e = threadIdx.x; e < kBlockKeys * P / 8;
         e += kWarpgroups * kWarpgroup) {
      const int token = e / (P / 8), piece = e % (P / 8);
      const bool isThere = token >= first && token < end && piece * 8 < D;
      storeShared16(to + pieceOffset(kBlockKeys, token, piece),
                    isThere
                        ? single(page + token * D + piece * 8, D - piece * 8)
                        : make_uint4(0, 0, 0, 0));
    }
  }

  /// Up to eight elements, one at a time.
  __device__ static uint4 single(const BF16* from, int count) {
    auto pair = [&](int i) {
      const uint32_t low = i < count ? from[i].bits : 0u;
      const uint32_t high = i + 1 < count ? from[i + 1].bits : 0u;
      return low | high << 16;
    };
    return make_uint4(pair(0), pair(2), pair(4), pair(6));
  }
};

template <int P>
__device__ inline void attentionWgmma(const uint64_t* args, int64_t rows,
                                      int64_t cols, int64_t rowTile,
                                      int64_t colTile) {
  const auto& a = argsOf<AttentionArgs>(args);
  const HeadQueries queries = queriesOfBlock(a, rows, cols, rowTile, colTile);
  if (queries.count <= 0)
    return;
  const bool vectors =
      a.D % 8 == 0 && isAligned16(a.keyCache) && isAligned16(a.valueCache);
  attendQueries<P>(CachedKeys<P>{a, keepQueries<P>(queries), vectors});
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_wgmma_64, 256, 2) {
  llmrt::cuda::attentionWgmma<64>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_wgmma_128, 256, 1) {
  llmrt::cuda::attentionWgmma<128>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_wgmma_256, 256, 1) {
  llmrt::cuda::attentionWgmma<256>(args, rows, cols, rowTile, colTile);
}
