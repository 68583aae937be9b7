// SPDX-License-Identifier: Apache-2.0
// attention on CUDA for many rows of a sequence, in plain f32: for f32 caches
// (parity). One block works on 16 queries of one head (AttentionPlainTile.cuh).
//
// Constraints  D at most 256; dtype of the cache f32. Rows at position -1 give
// zeros. The cache holds every token from the first that a row of a tile sees
// to the last. Shared memory  queries, keys, values and scores of a step.
// Scratch  none.
#include "runtime/kernels/cuda/AttentionPlainTile.cuh"

namespace llmrt::cuda {
namespace {

/// Keys and values in the pages of a cache.
struct CachedKeys {
  const AttentionArgs& a;
  QueryTile queries;
  int64_t kvHead;

  __device__ PlainTokens seen(int64_t query) const {
    const int64_t position = a.positions[queries.row + query];
    if (position < 0)
      return {0, 0};
    return {firstSeen(a, position), position + 1};
  }

  __device__ void at(int64_t token, int64_t d, float& key, float& value) const {
    auto element = [&](const void* cache) {
      return *(cacheToken<float>(cache, a.blockTable, a.pages, queries.sequence,
                                 token, a.KV, a.D, kvHead) +
               static_cast<int>(d));
    };
    key = element(a.keyCache);
    value = element(a.valueCache);
  }

  __device__ void finish(int64_t, float, float) const {}
};

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries = queryTileAt(a, tile.rowBegin, kPlainQueries);
  const int64_t head = tile.colBegin;
  if (queries.count <= 0 || head >= a.H)
    return;
  attendPlainTile(PlainTile{a.q + queries.row * a.ldq + head * a.D, a.ldq,
                            a.out + queries.row * a.ldo + head * a.D, a.ldo,
                            queries.count, a.D, static_cast<float>(a.scale),
                            static_cast<float>(a.softcap)},
                  CachedKeys{a, queries, kvHeadOf(a, head)});
}
