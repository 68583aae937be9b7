// SPDX-License-Identifier: Apache-2.0
// Attention of 128 queries of one head by wgmma (sm_90a), over keys that a
// source gives 64 at a time: what `attention` (keys in a cache) and
// `attention_rows` (keys beside the queries) share, so that both give the same
// bits. A warpgroup works on 64 queries, a warp on 16 of them. Queries, two
// blocks of keys and two of values lie in shared memory, scores, weights and
// outputs in registers. Queries and weights are rounded to bf16 (nearest even)
// for the products, sums are f32.
//
// While the tensor cores multiply a block's weights and values, and before it
// the next block's scores, the threads begin to copy what comes after and turn
// those scores into weights; and the two warpgroups hide each other's waits.
//
// Source  Shah et al. 2024 (FlashAttention-3), without its producer warps; PTX
// ISA, wgmma.
#pragma once

#include "runtime/kernels/cuda/AttentionTile.cuh"
#include "runtime/kernels/cuda/BulkCopies.cuh"

namespace llmrt::cuda {

inline constexpr int kWarpgroups = 2;
inline constexpr int kGroupQueries = 64; // of a warpgroup: the rows of wgmma
inline constexpr int kBlockQueries = kWarpgroups * kGroupQueries;
inline constexpr int kBlockKeys = kPageTokens;
inline constexpr int kBlockPanelBytes = kBlockKeys * kPanelRowBytes;
static_assert(kBlockKeys == 64, "the columns of multiplyShared()");

/// Rows [first, end) of `rows` rows of D floats, rounded, as panels; zeros for
/// the others and for elements beyond D.
template <int P>
__device__ inline void roundToPanels(const float* from, int64_t ld, int64_t D,
                                     int rows, int64_t first, int64_t end,
                                     uint8_t* to) {
  const bool vectors = D % 8 == 0 && ld % 4 == 0 && isAligned16(from);
#pragma unroll 2
  for (int e = threadIdx.x; e < rows * P / 8; e += kWarpgroups * kWarpgroup) {
    const int row = e / (P / 8), piece = e % (P / 8), d = piece * 8;
    const float* x = from + row * ld + d;
    float eight[8] = {};
    if (row >= first && row < end && d < D) {
      if (vectors) {
        widenVector(load16(x), x, eight);
        widenVector(load16(x + 4), x, eight + 4);
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          eight[i] = d + i < D ? x[i] : 0.0f;
      }
    }
    storeShared16(
        to + pieceOffset(rows, row, piece),
        make_uint4(packBf16(eight[0], eight[1]), packBf16(eight[2], eight[3]),
                   packBf16(eight[4], eight[5]), packBf16(eight[6], eight[7])));
  }
}

/// The tokens that a query, or any of a tile's queries, sees: [begin, end).
struct SeenTokens {
  int begin;
  int end;
};

/// Queries of one head. What the args have is read there when it is needed: a
/// thread's registers are those of the products.
struct HeadQueries {
  int sequence;
  int row;   // the first
  int count; // up to kBlockQueries, with or without work
  int head;
  int kvHead; // that it reads
};

/// Returns the queries of this block, none for a block without work. The last
/// tiles, whose queries see most, begin first.
template <typename Args>
__device__ inline HeadQueries queriesOfBlock(const Args& a, int64_t rows,
                                             int64_t cols, int64_t rowTile,
                                             int64_t colTile) {
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries =
      queryTileAt(a, rows - kBlockQueries - tile.rowBegin, kBlockQueries);
  return {static_cast<int>(queries.sequence), static_cast<int>(queries.row),
          tile.colBegin < a.H ? static_cast<int>(queries.count) : 0,
          static_cast<int>(tile.colBegin),
          static_cast<int>(kvHeadOf(a, tile.colBegin))};
}

/// Returns what any of the tile's queries sees; source.seen(query) is empty for
/// a query without work.
template <typename Source>
__device__ inline SeenTokens seenByAny(const Source& source, int lane) {
  int begin = INT32_MAX, end = 0;
  for (int i = lane; i < source.queries.count; i += kWarpLanes) {
    const SeenTokens mine = source.seen(i);
    if (mine.end == 0)
      continue;
    begin = mine.begin < begin ? mine.begin : begin;
    end = mine.end > end ? mine.end : end;
  }
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const int otherBegin = __shfl_xor_sync(0xFFFFFFFFu, begin, offset);
    const int otherEnd = __shfl_xor_sync(0xFFFFFFFFu, end, offset);
    begin = otherBegin < begin ? otherBegin : begin;
    end = otherEnd > end ? otherEnd : end;
  }
  return {begin, end};
}

using BlockScores = float[kBlockKeys / 8][4];
using BlockWeights = uint32_t[kBlockKeys / 16][4]; // bf16 pairs

/// Returns a query of a thread, of two.
__device__ inline int queryOfThread(int half) {
  const int lane = threadIdx.x % kWarpLanes;
  return threadIdx.x / kWarpLanes * 16 + lane / 4 + half * 8;
}

/// Softmax of the two queries of a thread (rows lane / 4 and lane / 4 + 8 of
/// the warp's 16) over the blocks so far. Scores are kept as the tensor cores
/// gave them, or behind the soft-cap; `factor` makes exponents of two of them.
template <typename Source>
struct RunningSoftmax {
  const Source& source;
  SeenTokens seenByAll; // of the warp's queries: needs no mask
  float softcap;
  float factor;
  float largest[2];
  float sum[2]; // of this lane's columns

  __device__ explicit RunningSoftmax(const Source& source)
      : source(source), seenByAll{0, INT32_MAX},
        softcap(static_cast<float>(source.a.softcap)) {
    constexpr float kLog2OfE = 1.4426950408889634f;
    factor = softcap == 0.0f ? scale() * kLog2OfE : kLog2OfE;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      largest[half] = kNoScore;
      sum[half] = 0.0f;
      narrow(seen(half));
    }
#pragma unroll
    for (int offset = 4; offset < kWarpLanes; offset *= 2)
      narrow({__shfl_xor_sync(0xFFFFFFFFu, seenByAll.begin, offset),
              __shfl_xor_sync(0xFFFFFFFFu, seenByAll.end, offset)});
  }

  __device__ float scale() const { return static_cast<float>(source.a.scale); }

  __device__ SeenTokens seen(int half) const {
    const int query = queryOfThread(half);
    return query < source.queries.count ? source.seen(query) : SeenTokens{0, 0};
  }

  __device__ void narrow(SeenTokens by) {
    seenByAll.begin = by.begin > seenByAll.begin ? by.begin : seenByAll.begin;
    seenByAll.end = by.end < seenByAll.end ? by.end : seenByAll.end;
  }

  /// Turns the scores of the tokens from `block` into weights; returns in
  /// `correction` what older weights are worth.
  __device__ void add(int block, int lane, BlockScores& scores,
                      float (&correction)[2]) {
    if (softcap != 0.0f) {
      const float turn = 2.0f * scale() / softcap;
#pragma unroll
      for (int j = 0; j < kBlockKeys / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) // cap tanh(x) = cap - 2 cap / (e^2x + 1)
          scores[j][i] = fmaf(-2.0f * softcap,
                              reciprocalApproximately(
                                  expOf(multiplied(scores[j][i], turn)) + 1.0f),
                              softcap);
    }
    if (block < seenByAll.begin || block + kBlockKeys > seenByAll.end)
      mask(block + lane % 4 * 2, scores);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = largest[half];
#pragma unroll
      for (int j = 0; j < kBlockKeys / 8; ++j)
        most = fmaxf(most, fmaxf(scores[j][half * 2], scores[j][half * 2 + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, 2));
      correction[half] =
          exp2Approximately(multiplied(largest[half] - most, factor));
      largest[half] = most;
      // A query that has seen nothing yet: its weights are 2^(-a lot).
      const float anchor = most == kNoScore ? 0.0f : multiplied(most, factor);
      float total = 0.0f;
#pragma unroll
      for (int j = 0; j < kBlockKeys / 8; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[j][half * 2 + i];
          score = exp2Approximately(fmaf(score, factor, -anchor));
          total = added(total, score);
        }
      sum[half] = fmaf(sum[half], correction[half], total);
    }
  }

  __device__ void mask(int token, BlockScores& scores) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const SeenTokens by = seen(half);
#pragma unroll
      for (int j = 0; j < kBlockKeys / 8; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int mine = token + j * 8 + i;
          if (mine < by.begin || mine >= by.end)
            scores[j][half * 2 + i] = kNoScore;
        }
    }
  }

  /// Returns the largest score of a query, with the scale.
  __device__ float largestScore(int half) const {
    return softcap == 0.0f ? largest[half] * scale() : largest[half];
  }
};

/// The layout of the sums of a product is that of the next one's first factor.
__device__ inline void roundWeights(const BlockScores& weights,
                                    BlockWeights& to) {
#pragma unroll
  for (int t = 0; t < kBlockKeys / 16; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to[t][i] = packBf16(weights[2 * t + i / 2][i % 2 * 2],
                          weights[2 * t + i / 2][i % 2 * 2 + 1]);
}

/// Outputs of a thread: chunks of at most 128 elements, the columns of a
/// product.
template <int P>
inline constexpr int kChunk = P < 128 ? P : 128;

template <int P>
using Outputs = float[P / kChunk<P>][kChunk<P> / 8][4];

/// Queries, two buffers each for blocks of keys and values, used in turn, and
/// what the block keeps behind them.
template <int P>
struct AttentionPanels {
  static constexpr int kQueryBytes = kBlockQueries * P * 2;
  static constexpr int kBlockBytes = kBlockKeys * P * 2;
  uint8_t* queries;

  __device__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(queries + kQueryBytes + 4 * kBlockBytes);
  }

  __device__ HeadQueries* kept() const {
    return reinterpret_cast<HeadQueries*>(barriers() + 2);
  }

  __device__ uint8_t* keys(int block) const {
    return queries + kQueryBytes + block / kBlockKeys % 2 * kBlockBytes;
  }

  __device__ uint8_t* values(int block) const {
    return keys(block) + 2 * kBlockBytes;
  }
};

/// Makes the barriers of the rounds, and keeps what a block works on behind its
/// panels: registers are dear. To be called by all threads.
template <int P, typename Rounds>
__device__ inline const HeadQueries& keepQueries(const HeadQueries& queries) {
  const AttentionPanels<P> panels = {sharedPanels()};
  Rounds::init(panels.barriers());
  if (threadIdx.x == 0)
    *panels.kept() = queries;
  __syncthreads();
  return *panels.kept();
}

/// Begins sums = 64 rows times a block of 64 others, over P elements: rows
/// from `row` of panels of `rows` rows, and others as a block of panels.
template <int P>
__device__ inline void beginScores(const uint8_t* first, int rows, int row,
                                   const uint8_t* second, BlockScores& sums) {
  const uint64_t a =
      panelDescriptor(sharedAddress(first) + row * kPanelRowBytes);
  const uint64_t b = panelDescriptor(sharedAddress(second));
#pragma unroll
  for (int d = 0; d < P; d += 16) {
    const int panel = d / kPanelElements, inRow = d % kPanelElements * 2;
    multiplyShared(sums, behind(a, panel * rows * kPanelRowBytes + inRow),
                   behind(b, panel * kBlockPanelBytes + inRow), d > 0);
  }
}

/// Begins sums += weights of a block of 64 rows times their elements from
/// `element`, a multiple of 64.
template <int kParts>
__device__ inline void beginOutputs(const BlockWeights& weights,
                                    const uint8_t* rows, int element,
                                    float (&sums)[kParts][4]) {
  const uint64_t b = panelDescriptor(
      sharedAddress(rows) + element / kPanelElements * kBlockPanelBytes,
      kBlockPanelBytes);
#pragma unroll
  for (int t = 0; t < kBlockKeys; t += 16)
    multiplyRegisters(sums, weights[t / 16], behind(b, t * kPanelRowBytes));
}

template <int P>
__device__ inline void beginAllOutputs(const BlockWeights& weights,
                                       const uint8_t* values, Outputs<P>& out) {
#pragma unroll
  for (int c = 0; c < P / kChunk<P>; ++c)
    beginOutputs(weights, values, c * kChunk<P>, out[c]);
}

template <int P>
__device__ inline void settleOutputs(Outputs<P>& out) {
#pragma unroll
  for (int c = 0; c < P / kChunk<P>; ++c)
    settle(out[c]);
}

template <int P>
__device__ inline void scaleOutputs(const float (&by)[2], Outputs<P>& out) {
#pragma unroll
  for (int c = 0; c < P / kChunk<P>; ++c)
#pragma unroll
    for (int n = 0; n < kChunk<P> / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        out[c][n][i] = multiplied(out[c][n][i], by[i / 2]);
}

/// Walks the blocks of keys.
template <int P, typename Source>
__device__ inline void attendBlocks(const Source& source, SeenTokens tokens,
                                    RunningSoftmax<Source>& softmax,
                                    Outputs<P>& out) {
  const AttentionPanels<P> panels = {sharedPanels()};
  typename Source::Rounds rounds(panels.barriers());
  const int lane = threadIdx.x % kWarpLanes;
  // By a shuffle: known to be the same in a warp, for uniform registers.
  const int firstRow =
      __shfl_sync(0xFFFFFFFFu, threadIdx.x / kWarpgroup, 0) * kGroupQueries;
  const int block = tokens.begin / kBlockKeys * kBlockKeys;
  const HeadQueries& queries = source.queries;
  roundToPanels<P>(source.a.q + queries.row * source.a.ldq +
                       queries.head * source.a.D,
                   source.a.ldq, source.a.D, kBlockQueries, 0, queries.count,
                   panels.queries);
  source.loadKeys(rounds, block, tokens, panels.keys(block));
  rounds.end();
  if (block + kBlockKeys < tokens.end)
    source.loadKeys(rounds, block + kBlockKeys, tokens,
                    panels.keys(block + kBlockKeys));
  source.loadValues(rounds, block, tokens, panels.values(block));
  rounds.end();
  publishShared(); // the queries
  rounds.wait();
  __syncthreads();
  BlockScores scores;
  BlockWeights weights;
  float correction[2];
  beginProducts();
  beginScores<P>(panels.queries, kBlockQueries, firstRow, panels.keys(block),
                 scores);
  endProducts();
  waitProducts<0>();
  settle(scores);
  softmax.add(block, lane, scores, correction);
  roundWeights(scores, weights);
  // At the top of a round `next` is the block whose scores it multiplies: every
  // thread is done with the keys of the block before and with the values before
  // those; the keys of `next` and the values before them are under way.
  int next = block + kBlockKeys;
  for (; next < tokens.end; next += kBlockKeys) {
    rounds.wait();
    source.finishValues(next - kBlockKeys, tokens,
                        panels.values(next - kBlockKeys));
    __syncthreads();
    settleOutputs<P>(out);
    beginProducts();
    beginScores<P>(panels.queries, kBlockQueries, firstRow, panels.keys(next),
                   scores);
    endProducts();
    beginAllOutputs<P>(weights, panels.values(next - kBlockKeys), out);
    endProducts();
    if (next + kBlockKeys < tokens.end)
      source.loadKeys(rounds, next + kBlockKeys, tokens,
                      panels.keys(next + kBlockKeys));
    source.loadValues(rounds, next, tokens, panels.values(next));
    rounds.end();
    waitProducts<1>();
    settle(scores);
    softmax.add(next, lane, scores, correction);
    waitProducts<0>();
    settle(scores); // the registers of the older weights are free from here
    settleOutputs<P>(out);
    scaleOutputs<P>(correction, out);
    roundWeights(scores, weights);
  }
  rounds.wait();
  source.finishValues(next - kBlockKeys, tokens,
                      panels.values(next - kBlockKeys));
  __syncthreads();
  settleOutputs<P>(out);
  beginProducts();
  beginAllOutputs<P>(weights, panels.values(next - kBlockKeys), out);
  endProducts();
  waitProducts<0>();
  settleOutputs<P>(out);
}

/// Attends. P: elements of a head, with padding. The source has the args `a`,
/// the queries of the block, and Rounds of BulkCopies.cuh;
/// source.loadKeys(rounds, block, tokens, to) and loadValues bring tokens block
/// .. block + 63 to the panels at `to`, at once or in the round. Keys outside
/// of `tokens` may be anything; values there are zeros when
/// source.finishValues(block, tokens, to) is done, which all threads call
/// between the round's end and a barrier. source.finish(query, largest, sum)
/// takes what the softmax of a query was.
template <int P, typename Source>
__device__ inline void attendQueries(const Source& source) {
  const int lane = threadIdx.x % kWarpLanes;
  const SeenTokens tokens = seenByAny(source, lane);
  RunningSoftmax<Source> softmax(source);
  Outputs<P> out = {};
  if (tokens.end > 0)
    attendBlocks<P>(source, tokens, softmax, out);
  const int D = static_cast<int>(source.a.D);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = queryOfThread(half);
    const float sum = sumOfLanes(softmax.sum[half], 4);
    if (query >= source.queries.count)
      continue;
    if (lane % 4 == 0)
      source.finish(query, softmax.largestScore(half), sum);
    const float factor = softmax.seen(half).end == 0 ? 0.0f : 1.0f / sum;
    float* to = source.a.out + (source.queries.row + query) * source.a.ldo +
                source.queries.head * D;
#pragma unroll
    for (int n = 0; n < P / 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = n * 8 + lane % 4 * 2 + i;
        if (d < D)
          to[d] = multiplied(
              out[n * 8 / kChunk<P>][n % (kChunk<P> / 8)][half * 2 + i],
              factor);
      }
  }
}

} // namespace llmrt::cuda
