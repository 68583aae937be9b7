// SPDX-License-Identifier: Apache-2.0
// attention on CUDA for many rows of a sequence over a bf16 cache: tensor
// cores. One block works on 64 queries of one head and walks the keys a page at
// a time (AttentionBf16Tile.cuh). With heads of 256 two warps share 16 queries.
//
// Constraints  D at most P of attention_bf16_P; dtype of the cache bf16. Rows
// at position -1 give zeros. The cache holds every token from the first that a
// row of a tile sees to the last.    Shared memory  queries, keys and values.
// Scratch  none.
#include "runtime/kernels/cuda/AttentionBf16Tile.cuh"

namespace llmrt::cuda {
namespace {

// Tokens [first, end) of a page, zeros for its others and for elements beyond
// D.
template <int P>
__device__ inline void loadPage(const BF16* page, int64_t D, int64_t first,
                                int64_t end, bool vectors, BF16* to) {
  const PageLayout layout = pageLayout<BF16>(D);
  for (int e = threadIdx.x; e < kKeys * P / 8; e += blockDim.x) {
    const int token = e / (P / 8), d = e % (P / 8) * 8;
    const BF16* from = page + layout.placeOf(token, d);
    uint4 raw = make_uint4(0, 0, 0, 0);
    if (token >= first && token < end) {
      if (vectors) {
        if (d < D)
          raw = load16(from);
      } else {
        auto pair = [&](int i) {
          const uint32_t low = d + i < D ? from[i].bits : 0u;
          const uint32_t high = d + i + 1 < D ? from[i + 1].bits : 0u;
          return low | high << 16;
        };
        raw = make_uint4(pair(0), pair(2), pair(4), pair(6));
      }
    }
    *reinterpret_cast<uint4*>(to + token * kHeadStride<P> + d) = raw;
  }
}

/// Keys and values in the pages of a cache.
template <int P>
struct CachedKeys {
  const AttentionArgs& a;
  QueryTile queries;
  int64_t kvHead;
  bool vectors;

  __device__ TokenRange seen(int query) const {
    const int position = a.positions[queries.row + query];
    if (position < 0)
      return {0, 0};
    return {static_cast<int>(firstSeen(a, position)), position + 1};
  }

  __device__ void load(int block, TokenRange tokens, BF16* keys,
                       BF16* values) const {
    auto page = [&](const void* cache, BF16* to) {
      loadPage<P>(cachePage<BF16>(cache, a.blockTable, a.pages,
                                  queries.sequence, block, a.KV, a.D, kvHead),
                  a.D, tokens.begin - block, tokens.end - block, vectors, to);
    };
    page(a.keyCache, keys);
    page(a.valueCache, values);
  }

  __device__ void finish(int, float, float) const {}
};

template <int P, int kSplit>
__device__ inline void attentionBf16(const uint64_t* args, int64_t rows,
                                     int64_t cols, int64_t rowTile,
                                     int64_t colTile) {
  const auto& a = argsOf<AttentionArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries = queryTileAt(a, tile.rowBegin, kTileQueries);
  const int64_t head = tile.colBegin;
  if (queries.count <= 0 || head >= a.H)
    return;
  const bool vectors =
      a.D % 8 == 0 && isAligned16(a.keyCache) && isAligned16(a.valueCache);
  attendTile<P, kSplit>(HeadTile{a.q + queries.row * a.ldq + head * a.D, a.ldq,
                                 a.out + queries.row * a.ldo + head * a.D,
                                 a.ldo, static_cast<int>(queries.count), a.D,
                                 static_cast<float>(a.scale),
                                 static_cast<float>(a.softcap)},
                        CachedKeys<P>{a, queries, kvHeadOf(a, head), vectors});
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_bf16_64, 128) {
  llmrt::cuda::attentionBf16<64, 1>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_bf16_128, 128) {
  llmrt::cuda::attentionBf16<128, 1>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_bf16_256, 256) {
  llmrt::cuda::attentionBf16<256, 2>(args, rows, cols, rowTile, colTile);
}
