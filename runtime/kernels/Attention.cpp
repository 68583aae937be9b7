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
#include "runtime/kernels/CacheWrite.h"
#include "runtime/kernels/ProductTile.h"
#include "runtime/kernels/VectorMath.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr int64_t kQueryStride = kMaxTileRows * kProductRowStride;
constexpr float kNoScore = -__builtin_inff();

/// Queries of one sequence and key/value head, and their running sums.
struct Group {
  int64_t count = 0;
  int64_t sequence = 0;
  int64_t kvHead = 0;
  float* out[kTileRows];
  int64_t first[kTileRows]; // first visible position
  int64_t last[kTileRows];  // its own position
  float m[kTileRows];
  float l[kTileRows];
};

struct Call {
  AttentionArgs args;
  AttentionScratch parts;
  float* scratch;

  float* q() const { return scratch + parts.q; }

  float* p(int64_t i) const {
    return scratch + parts.p + i * kProductRowStride;
  }

  float* acc(int64_t i) const {
    return scratch + parts.acc + i * parts.accStride;
  }
};

// The tokens of block `b` that query i sees, counted inside the block.
struct Visible {
  int64_t begin;
  int64_t end;
};

Visible visible(const Group& g, int64_t i, int64_t b) {
  return {greatest(g.first[i] - b * kPageTokens, 0),
          least(g.last[i] + 1 - b * kPageTokens, kPageTokens)};
}

template <typename T>
void scoreBlock(const Call& call, int64_t i, int64_t count, const T* keys) {
  const int64_t D = call.args.D;
  for (int64_t d = 0; d < D; d += kProductBlock)
    productCols(
        count, kPageTokens,
        call.q() + d / kProductBlock * kQueryStride + i * kProductRowStride,
        keys + d * kPageTokens, kPageTokens, least(kProductBlock, D - d),
        call.p(i), kProductRowStride, d > 0);
}

// Turns scores into weights and takes the query's online-softmax step.
void softmaxStep(const Call& call, Group& g, int64_t i, Visible see) {
  constexpr int vectors = kPageTokens / kLanes;
  float* p = call.p(i);
  const Vec scale = splat(static_cast<float>(call.args.scale));
  const bool capped = call.args.softcap != 0.0;
  const Vec cap = splat(static_cast<float>(call.args.softcap));
  const bool whole = see.begin == 0 && see.end == kPageTokens;
  const VecInt before = splatInt(static_cast<int>(see.begin));
  const VecInt end = splatInt(static_cast<int>(see.end));
  Vec largest = splat(kNoScore);
  for (int v = 0; v < vectors; ++v) {
    Vec score = load(p + v * kLanes) * scale;
    if (capped)
      score = cap * tanhVec(score / cap);
    if (!whole) {
      VecInt lane = addInt(laneIndex(), splatInt(v * kLanes));
      score = ifLessInt(lane, before, splat(kNoScore), score);
      score = ifLessInt(lane, end, score, splat(kNoScore));
    }
    largest = vmax(largest, score);
    store(p + v * kLanes, score);
  }
  float m = largestLane(largest);
  m = m > g.m[i] ? m : g.m[i];
  Vec sum = zero();
  for (int v = 0; v < vectors; ++v) {
    Vec weight = expVec(load(p + v * kLanes) - splat(m));
    sum = sum + weight;
    store(p + v * kLanes, weight);
  }
  float correction[kLanes];
  store(correction, expVec(splat(g.m[i]) - splat(m)));
  g.l[i] = g.l[i] * correction[0] + sumLanes(sum);
  g.m[i] = m;
  float* acc = call.acc(i);
  for (int64_t d = 0; d < call.parts.accStride; d += kLanes)
    store(acc + d, load(acc + d) * splat(correction[0]));
}

// acc += p v for tokens [begin, end) of queries [i, i + count).
template <typename T>
void addValues(const Call& call, int64_t i, int64_t count, int64_t begin,
               int64_t end, const T* values) {
  if (begin >= end)
    return;
  const int64_t D = call.args.D;
  const int64_t whole = D / kLanes * kLanes;
  productCols(count, whole, call.p(i) + begin, values + begin * D, D,
              end - begin, call.acc(i), call.parts.accStride, true);
  if (whole == D)
    return;
  float* tail = call.scratch + call.parts.tail;
  for (int64_t t = begin; t < end; ++t)
    for (int64_t c = 0; c < kLanes; ++c)
      tail[t * kLanes + c] =
          whole + c < D ? widen(values[t * D + whole + c]) : 0.0f;
  productRows<1>(count, call.p(i) + begin, tail + begin * kLanes, kLanes,
                 end - begin, call.acc(i) + whole, call.parts.accStride, true);
}

// Queries [i, end) all see a part of block b: the tokens that all of them see
// are multiplied together, those before and after one query at a time.
template <typename T>
void stepQueries(const Call& call, Group& g, int64_t i, int64_t end,
                 int64_t b) {
  const AttentionArgs& a = call.args;
  const T* keys = pageHead<T>(a.keyCache, a.blockTable, a.pages, g.sequence,
                              b * kPageTokens, a.KV, a.D, g.kvHead);
  const T* values = pageHead<T>(a.valueCache, a.blockTable, a.pages, g.sequence,
                                b * kPageTokens, a.KV, a.D, g.kvHead);
  scoreBlock(call, i, end - i, keys);
  Visible shared{0, kPageTokens};
  for (int64_t j = i; j < end; ++j) {
    Visible see = visible(g, j, b);
    softmaxStep(call, g, j, see);
    shared.begin = greatest(shared.begin, see.begin);
    shared.end = least(shared.end, see.end);
  }
  if (shared.begin >= shared.end)
    shared.begin = shared.end = 0;
  const bool any = shared.begin < shared.end;
  for (int64_t j = i; j < end; ++j) {
    Visible see = visible(g, j, b);
    addValues(call, j, 1, see.begin, any ? shared.begin : see.end, values);
  }
  addValues(call, i, end - i, shared.begin, shared.end, values);
  for (int64_t j = i; j < end && any; ++j)
    addValues(call, j, 1, shared.end, visible(g, j, b).end, values);
}

template <typename T>
void attendGroup(const Call& call, Group& g) {
  if (g.count == 0)
    return;
  int64_t blockBegin = g.first[0] / kPageTokens;
  int64_t blockEnd = 0;
  for (int64_t i = 0; i < g.count; ++i) {
    g.m[i] = kNoScore;
    g.l[i] = 0.0f;
    for (int64_t d = 0; d < call.parts.accStride; d += kLanes)
      store(call.acc(i) + d, zero());
    blockBegin = least(blockBegin, g.first[i] / kPageTokens);
    blockEnd = greatest(blockEnd, g.last[i] / kPageTokens + 1);
  }
  auto sees = [&](int64_t i, int64_t b) {
    return g.first[i] / kPageTokens <= b && b <= g.last[i] / kPageTokens;
  };
  for (int64_t b = blockBegin; b < blockEnd; ++b)
    for (int64_t i = 0; i < g.count;) {
      int64_t end = i;
      while (end < g.count && sees(end, b))
        ++end;
      if (end > i)
        stepQueries<T>(call, g, i, end, b);
      i = end + 1;
    }
  for (int64_t i = 0; i < g.count; ++i)
    for (int64_t d = 0; d < call.args.D; d += kLanes)
      storePart(g.out[i] + d, load(call.acc(i) + d) / splat(g.l[i]),
                call.args.D - d);
  g.count = 0;
}

// Takes one query into the group; a row without work only gets its zeros.
template <typename T>
void addQuery(const Call& call, Group& g, int64_t row, int64_t head) {
  const AttentionArgs& a = call.args;
  float* out = a.out + row * a.ldo + head * a.D;
  int64_t position = a.positions[row];
  if (position < 0) {
    for (int64_t d = 0; d < a.D; ++d)
      out[d] = 0.0f;
    return;
  }
  if (g.count == kTileRows)
    attendGroup<T>(call, g);
  int64_t i = g.count++;
  g.out[i] = out;
  g.last[i] = position;
  g.first[i] = a.window > 0 ? greatest(position - a.window + 1, 0) : 0;
  const float* q = a.q + row * a.ldq + head * a.D;
  for (int64_t d = 0; d < a.D; d += kProductBlock)
    __builtin_memcpy(call.q() + d / kProductBlock * kQueryStride +
                         i * kProductRowStride,
                     q + d, least(kProductBlock, a.D - d) * sizeof(float));
}

template <typename T>
void attendTile(const Call& call, const LlmrtTile& tile) {
  const AttentionArgs& a = call.args;
  int64_t rowEnd = least(tile.rowEnd, a.rows);
  int64_t headEnd = least(tile.colEnd, a.H);
  Group g;
  for (int64_t row = tile.rowBegin; row < rowEnd;) {
    g.sequence = row / a.R;
    int64_t sequenceEnd = least(rowEnd, (g.sequence + 1) * a.R);
    for (int64_t head = tile.colBegin; head < headEnd;) {
      // Query heads that pad a rank's share read its last key/value head.
      g.kvHead = least((head + a.headOffset) / a.group, a.KV - 1);
      int64_t groupEnd =
          g.kvHead + 1 == a.KV
              ? headEnd
              : least(headEnd, (g.kvHead + 1) * a.group - a.headOffset);
      for (; head < groupEnd; ++head)
        for (int64_t r = row; r < sequenceEnd; ++r)
          addQuery<T>(call, g, r, head);
      attendGroup<T>(call, g);
    }
    row = sequenceEnd;
  }
}

} // namespace

void attention(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  Call call;
  call.args = readArgs<AttentionArgs>(words);
  call.parts = attentionScratch(call.args.D);
  call.scratch = static_cast<float*>(scratch);
  if (call.args.dtype == static_cast<int64_t>(DType::F32))
    return attendTile<float>(call, *tile);
  attendTile<BF16>(call, *tile);
}

} // namespace llmrt::LLMRT_LEVEL
