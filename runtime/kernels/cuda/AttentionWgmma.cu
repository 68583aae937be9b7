// SPDX-License-Identifier: Apache-2.0
// attention on sm_90a for many rows of a sequence over a bf16 cache: wgmma. One
// block works on 128 queries of one head and walks the keys a page at a time
// (AttentionWgmmaTile.cuh). A head's page that lies as panels comes whole, by
// one bulk copy; others by cp.async, 16 bytes at a time, or element by element.
//
// Constraints  dtype of the cache bf16. D at most P of attention_wgmma_P, and P
// itself in attention_wgmma_bulk_P, which wants the cache at a multiple of 16
// bytes. Rows at position -1 give zeros. The cache holds every token from the
// first that a row of a tile sees to the last.    Shared memory  queries, two
// blocks of keys and of values, two barriers, what the block works on.
// Scratch  none.
#include "runtime/kernels/cuda/AttentionWgmmaTile.cuh"

namespace llmrt::cuda {
namespace {

/// Keys and values in the pages of a cache.
struct CachedKeys {
  const AttentionArgs& a;
  const HeadQueries& queries;

  __device__ SeenTokens seen(int query) const {
    const int position = a.positions[queries.row + query];
    if (position < 0)
      return {0, 0};
    return {static_cast<int>(firstSeen(a, position)), position + 1};
  }

  __device__ const BF16* page(const void* cache, int block) const {
    return cachePage<BF16>(cache, a.blockTable, a.pages, queries.sequence,
                           block, a.KV, a.D, queries.kvHead);
  }

  __device__ void finish(int, float, float) const {}
};

/// Pages of P elements a token, as panels.
template <int P>
struct WholePages : CachedKeys {
  using Rounds = BulkRounds;

  __device__ void loadKeys(const Rounds& rounds, int block, SeenTokens,
                           uint8_t* to) const {
    rounds.copy(to, page(a.keyCache, block), kBlockKeys * P * 2);
  }

  __device__ void loadValues(const Rounds& rounds, int block, SeenTokens,
                             uint8_t* to) const {
    rounds.copy(to, page(a.valueCache, block), kBlockKeys * P * 2);
  }

  /// A copy brings what nobody has written too.
  __device__ void finishValues(int block, SeenTokens tokens,
                               uint8_t* to) const {
    const int first = tokens.begin - block, end = tokens.end - block;
    if (first <= 0 && end >= kBlockKeys)
      return;
    for (int e = threadIdx.x; e < kBlockKeys * P / kPieceElements;
         e += kWarpgroups * kWarpgroup) {
      const int token = e / (P / kPieceElements);
      if (token < first || token >= end)
        storeShared16(
            to + pieceOffset(kBlockKeys, token, e % (P / kPieceElements)),
            make_uint4(0, 0, 0, 0));
    }
    publishShared();
  }
};

/// Pages of up to P elements a token, as rows or as panels.
template <int P>
struct PagesInPieces : CachedKeys {
  using Rounds = PieceRounds;
  bool vectors; // pages may be read 16 bytes at a time

  __device__ void loadKeys(const Rounds&, int block, SeenTokens tokens,
                           uint8_t* to) const {
    load(a.keyCache, block, tokens, to);
  }

  __device__ void loadValues(const Rounds&, int block, SeenTokens tokens,
                             uint8_t* to) const {
    load(a.valueCache, block, tokens, to);
  }

  __device__ void finishValues(int, SeenTokens, uint8_t*) const {}

private:
  /// Zeros for the tokens that are not there, and for elements beyond D.
  __device__ void load(const void* cache, int block, SeenTokens tokens,
                       uint8_t* to) const {
    // A thread copies one piece of tokens whose numbers have the same last
    // bits, so that it lies at the same place of all of them.
    constexpr int kPieces = P / kPieceElements;
    constexpr int kStep = kWarpgroups * kWarpgroup / kPieces;
    static_assert(kStep % 8 == 0);
    const int piece = threadIdx.x % kPieces, D = static_cast<int>(a.D);
    const int elements = D - piece * kPieceElements; // that there are
    const int row = threadIdx.x / kPieces;
    const int first = tokens.begin - block, end = tokens.end - block;
    const PageLayout layout = pageLayout<BF16>(a.D);
    const BF16* all = page(cache, block);
    const BF16* from = all + layout.placeOf(row, piece * kPieceElements);
    uint8_t* place = to + pieceOffset(kBlockKeys, row, piece);
#pragma unroll 1
    for (int token = row; token < kBlockKeys; token += kStep) {
      const bool isThere = token >= first && token < end && elements > 0;
      if (vectors)
        copyAsync16(place, isThere ? from : all, isThere);
      else
        storeShared16(place, isThere ? single(from, elements)
                                     : make_uint4(0, 0, 0, 0));
      from += kStep * layout.row;
      place += kStep * kPanelRowBytes;
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
__device__ inline void attentionOfWholePages(const uint64_t* args, int64_t rows,
                                             int64_t cols, int64_t rowTile,
                                             int64_t colTile) {
  const auto& a = argsOf<AttentionArgs>(args);
  const HeadQueries queries = queriesOfBlock(a, rows, cols, rowTile, colTile);
  if (queries.count > 0)
    attendQueries<P>(WholePages<P>{{a, keepQueries<P, BulkRounds>(queries)}});
}

template <int P>
__device__ inline void attentionInPieces(const uint64_t* args, int64_t rows,
                                         int64_t cols, int64_t rowTile,
                                         int64_t colTile) {
  const auto& a = argsOf<AttentionArgs>(args);
  const HeadQueries queries = queriesOfBlock(a, rows, cols, rowTile, colTile);
  if (queries.count <= 0)
    return;
  const bool vectors = a.D % kPieceElements == 0 && isAligned16(a.keyCache) &&
                       isAligned16(a.valueCache);
  attendQueries<P>(
      PagesInPieces<P>{{a, keepQueries<P, PieceRounds>(queries)}, vectors});
}

} // namespace
} // namespace llmrt::cuda

#define LLMRT_ATTENTION_WGMMA(P, blocks)                                       \
  LLMRT_CUDA_ENTRY(attention_wgmma_##P, 256, blocks) {                         \
    llmrt::cuda::attentionInPieces<P>(args, rows, cols, rowTile, colTile);     \
  }                                                                            \
  LLMRT_CUDA_ENTRY(attention_wgmma_bulk_##P, 256, blocks) {                    \
    llmrt::cuda::attentionOfWholePages<P>(args, rows, cols, rowTile, colTile); \
  }

LLMRT_ATTENTION_WGMMA(64, 2)
LLMRT_ATTENTION_WGMMA(128, 1)
LLMRT_ATTENTION_WGMMA(256, 1)
