// SPDX-License-Identifier: Apache-2.0
// What a group of queries does with one block of keys: the steps that
// `attention` and `attention_rows` share, so that they agree to the bit.
// Attention.cpp says what one query computes. For kernel sources only.
#pragma once

#include "runtime/kernels/ProductTile.h"
#include "runtime/kernels/VectorMath.h"

namespace llmrt::LLMRT_LEVEL {

inline constexpr float kNoScore = -__builtin_inff();

/// How scores follow from products.
struct Scoring {
  int64_t D;
  double scale;
  double softcap;
};

/// Queries of one sequence and key/value head, and their running sums. Queries
/// are packed rows of D (see packedRowFloats).
struct QueryGroup {
  int64_t count = 0;
  float* packedQ = nullptr;
  float* weights = nullptr; // [kTileRows, kAttentionStride]
  float* sums = nullptr;    // [kTileRows, accStride]
  float* tail = nullptr;    // [kPageTokens, kLanes]
  int64_t accStride = 0;
  float* out[kTileRows];
  float* logSum[kTileRows];
  int64_t first[kTileRows]; // first visible position
  int64_t last[kTileRows];  // its own position
  float m[kTileRows];
  float l[kTileRows];

  float* p(int64_t i) const { return weights + i * kAttentionStride; }

  float* acc(int64_t i) const { return sums + i * accStride; }

  bool sees(int64_t i, int64_t b) const {
    return first[i] / kPageTokens <= b && b <= last[i] / kPageTokens;
  }

  void add(const float* q, int64_t D, int64_t firstSeen, int64_t position,
           float* result, float* resultLogSum) {
    const int64_t i = count++;
    out[i] = result;
    logSum[i] = resultLogSum;
    first[i] = firstSeen;
    last[i] = position;
    for (int64_t d = 0; d < D; d += kAttentionBlock)
      __builtin_memcpy(packedQ + d / kAttentionBlock * kQueryStride +
                           i * kAttentionStride,
                       q + d, least(kAttentionBlock, D - d) * sizeof(float));
  }

  void begin() {
    for (int64_t i = 0; i < count; ++i) {
      m[i] = kNoScore;
      l[i] = 0.0f;
      for (int64_t d = 0; d < accStride; d += kLanes)
        store(acc(i) + d, zero());
    }
  }

  /// Writes the results and empties the group.
  void finish(int64_t D) {
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t d = 0; d < D; d += kLanes)
        storePart(out[i] + d, load(acc(i) + d) / splat(l[i]), D - d);
      if (logSum[i])
        *logSum[i] = static_cast<float>(m[i] + __builtin_log(double{l[i]}));
    }
    count = 0;
  }

  static constexpr int64_t kQueryStride = kMaxTileRows * kAttentionStride;
};

/// Returns the key/value head that a query head reads. Query heads that pad a
/// rank's share read its last one.
template <typename Args>
inline int64_t kvHeadOf(int64_t head, const Args& a) {
  return least((head + a.headOffset) / a.group, a.KV - 1);
}

/// Returns the query head after the last one that reads a key/value head.
template <typename Args>
inline int64_t kvHeadEnd(int64_t kvHead, const Args& a) {
  return kvHead + 1 == a.KV ? a.H
                            : least(a.H, (kvHead + 1) * a.group - a.headOffset);
}

/// One block of kPageTokens keys [D, kPageTokens] and values [kPageTokens,
/// valueStride].
template <typename T>
struct KeyBlock {
  const T* keys;
  const T* values;
  int64_t valueStride;
};

/// The tokens of block `b` that query i sees, counted inside the block.
struct Visible {
  int64_t begin;
  int64_t end;
};

inline Visible visible(const QueryGroup& g, int64_t i, int64_t b) {
  return {greatest(g.first[i] - b * kPageTokens, 0),
          least(g.last[i] + 1 - b * kPageTokens, kPageTokens)};
}

template <typename T>
void scoreBlock(const Scoring& scoring, const QueryGroup& g, int64_t i,
                int64_t count, const T* keys) {
  const int64_t D = scoring.D;
  for (int64_t d = 0; d < D; d += kAttentionBlock)
    productCols<kAttentionStride>(
        count, kPageTokens,
        g.packedQ + d / kAttentionBlock * QueryGroup::kQueryStride +
            i * kAttentionStride,
        keys + d * kPageTokens, kPageTokens, least(kAttentionBlock, D - d),
        g.p(i), kAttentionStride, d > 0);
}

// Turns scores into weights and takes the query's online-softmax step.
inline void softmaxStep(const Scoring& scoring, QueryGroup& g, int64_t i,
                        Visible see) {
  constexpr int vectors = kPageTokens / kLanes;
  float* p = g.p(i);
  const Vec scale = splat(static_cast<float>(scoring.scale));
  const bool capped = scoring.softcap != 0.0;
  const Vec cap = splat(static_cast<float>(scoring.softcap));
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
  float* acc = g.acc(i);
  for (int64_t d = 0; d < g.accStride; d += kLanes)
    store(acc + d, load(acc + d) * splat(correction[0]));
}

// acc += p v for tokens [begin, end) of queries [i, i + count).
template <typename T>
void addValues(const Scoring& scoring, const QueryGroup& g, int64_t i,
               int64_t count, int64_t begin, int64_t end,
               const KeyBlock<T>& block) {
  if (begin >= end)
    return;
  const int64_t D = scoring.D;
  const int64_t whole = D / kLanes * kLanes;
  productCols<kAttentionStride>(
      count, whole, g.p(i) + begin, block.values + begin * block.valueStride,
      block.valueStride, end - begin, g.acc(i), g.accStride, true);
  if (whole == D)
    return;
  for (int64_t t = begin; t < end; ++t)
    for (int64_t c = 0; c < kLanes; ++c)
      g.tail[t * kLanes + c] =
          whole + c < D ? widen(block.values[t * block.valueStride + whole + c])
                        : 0.0f;
  productRows<1, kAttentionStride>(count, g.p(i) + begin,
                                   g.tail + begin * kLanes, kLanes, end - begin,
                                   g.acc(i) + whole, g.accStride, true);
}

// Queries [i, end) all see a part of block b: the tokens that all of them see
// are multiplied together, those before and after one query at a time.
template <typename T>
void stepQueries(const Scoring& scoring, QueryGroup& g, int64_t i, int64_t end,
                 int64_t b, const KeyBlock<T>& block) {
  scoreBlock(scoring, g, i, end - i, block.keys);
  Visible shared{0, kPageTokens};
  for (int64_t j = i; j < end; ++j) {
    Visible see = visible(g, j, b);
    softmaxStep(scoring, g, j, see);
    shared.begin = greatest(shared.begin, see.begin);
    shared.end = least(shared.end, see.end);
  }
  if (shared.begin >= shared.end)
    shared.begin = shared.end = 0;
  const bool any = shared.begin < shared.end;
  for (int64_t j = i; j < end; ++j) {
    Visible see = visible(g, j, b);
    addValues(scoring, g, j, 1, see.begin, any ? shared.begin : see.end, block);
  }
  addValues(scoring, g, i, end - i, shared.begin, shared.end, block);
  for (int64_t j = i; j < end && any; ++j)
    addValues(scoring, g, j, 1, shared.end, visible(g, j, b).end, block);
}

/// Takes the step of block b for the queries that see it; blockAt(b) gives the
/// block and is called only if there are any.
template <typename BlockAt>
void stepGroup(const Scoring& scoring, QueryGroup& g, int64_t b,
               const BlockAt& blockAt) {
  for (int64_t i = 0; i < g.count;) {
    int64_t end = i;
    while (end < g.count && g.sees(end, b))
      ++end;
    if (end > i)
      stepQueries(scoring, g, i, end, b, blockAt(b));
    i = end + 1;
  }
}

} // namespace llmrt::LLMRT_LEVEL
