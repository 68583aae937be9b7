// SPDX-License-Identifier: Apache-2.0
// attention: causal grouped-query attention over a paged cache. Queries that
// read the same key/value head of the same sequence (rows, and heads of a
// group) share each key block; what one query computes does not depend on its
// company:
//   scores of a block: sum over d, ascending, from 0; times scale; soft-cap
//   m' = max(m, largest visible score); c = exp(m - m')
//   p = exp(score - m'), 0 where not visible
//   l = l c + sum of p, in a fixed tree; acc = acc c; acc += p v, tokens
//   ascending out = acc / l
// Keys and values that a row does not see are never used, whatever they hold.
//
// Constraints  dtype of the cache f32 or bf16; any D. Rows at position -1 give
// zeros. Scratch  attentionScratch() in Scratch.h. Source  Milakov and
// Gimelshein 2018 (online softmax); Dao et al. 2022.
#include "runtime/kernels/AttentionStep.h"
#include "runtime/kernels/CacheWrite.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

template <typename T>
void attendGroup(const AttentionArgs& a, const Scoring& scoring, QueryGroup& g,
                 int64_t sequence, int64_t kvHead) {
  if (g.count == 0)
    return;
  g.begin();
  int64_t blockBegin = g.first[0] / kPageTokens;
  int64_t blockEnd = 0;
  for (int64_t i = 0; i < g.count; ++i) {
    blockBegin = least(blockBegin, g.first[i] / kPageTokens);
    blockEnd = greatest(blockEnd, g.last[i] / kPageTokens + 1);
  }
  auto blockAt = [&](int64_t b) {
    auto page = [&](const void* cache) {
      return pageHead<T>(cache, a.blockTable, a.pages, sequence,
                         b * kPageTokens, a.KV, a.D, kvHead);
    };
    return KeyBlock<T>{page(a.keyCache), page(a.valueCache), a.D};
  };
  for (int64_t b = blockBegin; b < blockEnd; ++b)
    stepGroup(scoring, g, b, blockAt);
  g.finish(a.D);
}

template <typename T>
void attendTile(const AttentionArgs& a, const LlmrtTile& tile, QueryGroup& g) {
  const Scoring scoring{a.D, a.scale, a.softcap};
  int64_t rowEnd = least(tile.rowEnd, a.rows);
  int64_t headEnd = least(tile.colEnd, a.H);
  for (int64_t row = tile.rowBegin; row < rowEnd;) {
    const int64_t sequence = row / a.R;
    int64_t sequenceEnd = least(rowEnd, (sequence + 1) * a.R);
    for (int64_t head = tile.colBegin; head < headEnd;) {
      const int64_t kvHead = kvHeadOf(head, a);
      const int64_t groupEnd = least(headEnd, kvHeadEnd(kvHead, a));
      for (; head < groupEnd; ++head)
        for (int64_t r = row; r < sequenceEnd; ++r) {
          float* out = a.out + r * a.ldo + head * a.D;
          const int64_t position = a.positions[r];
          if (position < 0) { // without work
            for (int64_t d = 0; d < a.D; ++d)
              out[d] = 0.0f;
            continue;
          }
          if (g.count == kTileRows)
            attendGroup<T>(a, scoring, g, sequence, kvHead);
          g.add(a.q + r * a.ldq + head * a.D, a.D,
                a.window > 0 ? greatest(position - a.window + 1, 0) : 0,
                position, out, nullptr);
        }
      attendGroup<T>(a, scoring, g, sequence, kvHead);
    }
    row = sequenceEnd;
  }
}

} // namespace

void attention(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  const auto a = readArgs<AttentionArgs>(words);
  const AttentionScratch parts = attentionScratch(a.D, 1, 0);
  float* floats = static_cast<float*>(scratch);
  QueryGroup g;
  g.packedQ = floats + parts.q;
  g.weights = floats + parts.p;
  g.sums = floats + parts.acc;
  g.tail = floats + parts.tail;
  g.accStride = parts.accStride;
  if (a.dtype == static_cast<int64_t>(DType::F32))
    return attendTile<float>(a, *tile, g);
  attendTile<BF16>(a, *tile, g);
}

} // namespace llmrt::LLMRT_LEVEL
