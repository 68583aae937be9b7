// SPDX-License-Identifier: Apache-2.0
// Attention of 64 queries of one head by tensor cores, over keys that a source
// gives 64 at a time: what `attention` (keys in a cache) and `attention_rows`
// (keys beside the queries) share, so that both give the same bits; and the
// products that attention_gradient takes from it. A warp works on 16 queries;
// queries, keys and values lie in shared memory, scores and outputs in
// registers. Queries and weights are rounded to bf16 (nearest even) for the
// products, sums are f32.
//
// Source  Dao 2023 (FlashAttention-2); PTX ISA, fragments of mma.m16n8k16.
#pragma once

#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {

inline constexpr int kTileQueries = 64;
inline constexpr int kKeys = kPageTokens;
inline constexpr int kScoreParts = kKeys / 8; // products of 16 x 8 scores

/// Rows in shared memory are P + 8 elements apart: the eight rows of a matrix
/// fragment lie in different banks.
template <int P>
inline constexpr int kHeadStride = P + 8;

/// Rows [first, end) of 64 rows of D floats, rounded; zeros for the others and
/// for elements beyond D.
template <int P>
__device__ inline void loadRounded(const float* from, int64_t ld, int64_t D,
                                   int64_t first, int64_t end, BF16* to) {
  const bool vectors = D % 4 == 0 && ld % 4 == 0 && isAligned16(from);
  for (int e = threadIdx.x; e < kTileQueries * P / 4; e += blockDim.x) {
    const int row = e / (P / 4), d = e % (P / 4) * 4;
    const float* x = from + row * ld + d;
    float four[4] = {};
    if (row >= first && row < end && d < D) {
      if (vectors) {
        widenVector(load16(x), x, four);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          four[i] = d + i < D ? x[i] : 0.0f;
      }
    }
    *reinterpret_cast<uint2*>(to + row * kHeadStride<P> + d) =
        make_uint2(packBf16(four[0], four[1]), packBf16(four[2], four[3]));
  }
}

using Scores = float[kScoreParts][4];

/// scores = 16 rows of q times 8 kCols rows of keys.
template <int P, int kCols>
__device__ inline void multiplyKeys(const BF16* q, const BF16* keys, int lane,
                                    float (&scores)[kCols][4]) {
  constexpr int kStride = kHeadStride<P>;
  const BF16* qRow = q + lane % 16 * kStride + lane / 16 * 8;
  const BF16* keyRow =
      keys + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int j = 0; j < kCols; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      scores[j][i] = 0.0f;
#pragma unroll
  for (int d = 0; d < P; d += 16) {
    uint32_t first[4];
    loadMatrices(qRow + d, first);
#pragma unroll
    for (int j = 0; j < kCols; j += 2) {
      uint32_t second[4];
      loadMatrices(keyRow + j * 8 * kStride + d, second);
      multiplyMatrices(scores[j], first, second[0], second[1]);
      multiplyMatrices(scores[j + 1], first, second[2], second[3]);
    }
  }
}

/// The two queries of a lane: rows lane / 4 and lane / 4 + 8 of the warp's 16.
struct Queries {
  int first[2]; // visible tokens
  int last[2];
  float largest[2];
  float sum[2];
};

/// Turns scores into weights; returns in `correction` what older sums are
/// worth.
__device__ inline void softmaxStep(Queries& queries, int block, int lane,
                                   float scale, float softcap, Scores& scores,
                                   float (&correction)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float most = queries.largest[half];
#pragma unroll
    for (int j = 0; j < kScoreParts; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = block + j * 8 + lane % 4 * 2 + i;
        float& score = scores[j][half * 2 + i];
        score = token >= queries.first[half] && token <= queries.last[half]
                    ? scoreOf(score, scale, softcap)
                    : kNoScore;
        most = fmaxf(most, score);
      }
    most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, 2));
    correction[half] = expOf(queries.largest[half] - most);
    queries.largest[half] = most;
    float total = 0.0f;
#pragma unroll
    for (int j = 0; j < kScoreParts; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[j][half * 2 + i];
        score = score == kNoScore ? 0.0f : expOf(score - most);
        total += score;
      }
    queries.sum[half] =
        queries.sum[half] * correction[half] + sumOfLanes(total, 4);
  }
}

/// out += weights * 8 kCols rows of values, for kParts products of 16 queries x
/// 8 elements.
template <int P, int kParts, int kCols>
__device__ inline void multiplyValues(const float (&weights)[kCols][4],
                                      const BF16* values, int lane,
                                      float (&out)[kParts][4]) {
  constexpr int kStride = kHeadStride<P>;
  const BF16* row = values + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
  for (int t = 0; t < 8 * kCols; t += 16) {
    const int j = t / 8;
    const uint32_t first[4] = {packBf16(weights[j][0], weights[j][1]),
                               packBf16(weights[j][2], weights[j][3]),
                               packBf16(weights[j + 1][0], weights[j + 1][1]),
                               packBf16(weights[j + 1][2], weights[j + 1][3])};
#pragma unroll
    for (int n = 0; n < kParts; n += 2) {
      uint32_t second[4];
      loadMatricesTransposed(row + t * kStride + n * 8, second);
      multiplyMatrices(out[n], first, second[0], second[1]);
      multiplyMatrices(out[n + 1], first, second[2], second[3]);
    }
  }
}

/// The tokens that a query, or any of a tile's queries, sees: [begin, end).
struct TokenRange {
  int begin;
  int end;
};

/// Queries of one head.
struct HeadTile {
  const float* q; // of the first query
  int64_t ldq;
  float* out;
  int64_t ldo;
  int count; // up to kTileQueries
  int64_t D;
  float scale;
  float softcap;
};

/// source.seen(query): its TokenRange, empty for a query without work.
template <typename Source>
__device__ inline TokenRange tokensOf(const Source& source, int count,
                                      int lane) {
  int begin = INT32_MAX, end = 0;
  for (int i = lane; i < count; i += kWarpLanes) {
    const TokenRange mine = source.seen(i);
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

/// Attends. P: elements of a head, with padding; kSplit: warps that share 16
/// queries, each of which finds all scores and its part of the output.
/// source.load(block, tokens, keys, values) brings tokens block .. block + 63,
/// those in `tokens` of them, to shared memory; source.finish(query, largest,
/// sum) takes what the softmax of a query was. Shared memory: 3 x 64 rows.
template <int P, int kSplit, typename Source>
__device__ inline void attendTile(const HeadTile& tile, const Source& source) {
  constexpr int kStride = kHeadStride<P>;
  constexpr int kParts = P / 8 / kSplit;
  BF16* q = reinterpret_cast<BF16*>(sharedMemory());
  BF16* keys = q + kTileQueries * kStride;
  BF16* values = keys + kKeys * kStride;
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int row = warp / kSplit * 16;               // of the warp's queries
  const int element = warp % kSplit * (P / kSplit); // of its outputs
  const TokenRange tokens = tokensOf(source, tile.count, lane);
  Queries mine;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane / 4 + half * 8;
    const TokenRange seen =
        query < tile.count ? source.seen(query) : TokenRange{0, 0};
    mine.first[half] = seen.begin;
    mine.last[half] = seen.end - 1;
    mine.largest[half] = kNoScore;
    mine.sum[half] = 0.0f;
  }
  float out[kParts][4] = {};
  loadRounded<P>(tile.q, tile.ldq, tile.D, 0, tile.count, q);
  for (int block = tokens.begin / kKeys * kKeys; block < tokens.end;
       block += kKeys) {
    __syncthreads();
    source.load(block, tokens, keys, values);
    __syncthreads();
    Scores scores;
    multiplyKeys<P>(q + row * kStride, keys, lane, scores);
    float correction[2];
    softmaxStep(mine, block, lane, tile.scale, tile.softcap, scores,
                correction);
#pragma unroll
    for (int n = 0; n < kParts; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        out[n][i] *= correction[i / 2];
    multiplyValues<P>(scores, values + element, lane, out);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane / 4 + half * 8;
    if (query >= tile.count)
      continue;
    if (lane % 4 == 0 && element == 0)
      source.finish(query, mine.largest[half], mine.sum[half]);
    const float factor = mine.last[half] < 0 ? 0.0f : 1.0f / mine.sum[half];
    float* to = tile.out + query * tile.ldo;
#pragma unroll
    for (int n = 0; n < kParts; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = element + n * 8 + lane % 4 * 2 + i;
        if (d < tile.D)
          to[d] = out[n][half * 2 + i] * factor;
      }
  }
}

} // namespace llmrt::cuda
