// SPDX-License-Identifier: Apache-2.0
// attention on CUDA for many rows of a sequence over a bf16 cache: tensor
// cores. One block works on 64 queries of one head, a warp on 16 of them, and
// walks the keys a page at a time; queries, keys and values lie in shared
// memory, scores and outputs in registers. Queries and weights are rounded to
// bf16 (nearest even) for the products, sums are f32. With heads of 256 two
// warps share 16 queries: each finds all scores, and half of the output.
//
// Constraints  D at most P of attention_bf16_P; dtype of the cache bf16. Rows
// at position -1 give zeros. The cache holds every token from the first that a
// row of a tile sees to the last.    Shared memory  attentionBf16SharedBytes.
// Scratch  none. Source  Dao 2023 (FlashAttention-2); PTX ISA, fragments of
// mma.m16n8k16.
#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kQueries = 64;
constexpr int kKeys = kPageTokens;
constexpr int kScoreParts = kKeys / 8; // products of 16 x 8 scores of a warp

/// Rows in shared memory are P + 8 elements apart: the eight rows of a matrix
/// fragment lie in different banks.
template <int P>
struct Shared {
  static constexpr int kStride = P + 8;
  BF16* q;      // [kQueries, kStride]
  BF16* keys;   // [kKeys, kStride]
  BF16* values; // [kKeys, kStride]

  __device__ static Shared get() {
    auto* q = reinterpret_cast<BF16*>(sharedMemory());
    return {q, q + kQueries * kStride, q + (kQueries + kKeys) * kStride};
  }
};

template <int P>
__device__ inline void loadQueries(const AttentionArgs& a,
                                   const QueryTile& queries, int64_t head,
                                   BF16* to) {
  for (int e = threadIdx.x; e < kQueries * P / 2; e += blockDim.x) {
    const int query = e / (P / 2), d = e % (P / 2) * 2;
    const float* from = a.q + (queries.row + query) * a.ldq + head * a.D + d;
    const bool isQuery = query < queries.count;
    const float low = isQuery && d < a.D ? from[0] : 0.0f;
    const float high = isQuery && d + 1 < a.D ? from[1] : 0.0f;
    *reinterpret_cast<uint32_t*>(to + query * Shared<P>::kStride + d) =
        packBf16(low, high);
  }
}

// Tokens [first, end) of a page, zeros for its others and for elements beyond
// D.
template <int P>
__device__ inline void loadPage(const BF16* page, int64_t D, int64_t first,
                                int64_t end, bool vectors, BF16* to) {
  for (int e = threadIdx.x; e < kKeys * P / 8; e += blockDim.x) {
    const int token = e / (P / 8), d = e % (P / 8) * 8;
    const BF16* from = page + token * D + d;
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
    *reinterpret_cast<uint4*>(to + token * Shared<P>::kStride + d) = raw;
  }
}

using Scores = float[kScoreParts][4];

template <int P>
__device__ inline void multiplyKeys(const BF16* q, const BF16* keys, int lane,
                                    Scores& scores) {
  constexpr int kStride = Shared<P>::kStride;
  const BF16* qRow = q + lane % 16 * kStride + lane / 16 * 8;
  const BF16* keyRow =
      keys + (lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
#pragma unroll
  for (int j = 0; j < kScoreParts; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      scores[j][i] = 0.0f;
#pragma unroll
  for (int d = 0; d < P; d += 16) {
    uint32_t first[4];
    loadMatrices(qRow + d, first);
#pragma unroll
    for (int j = 0; j < kScoreParts; j += 2) {
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

// Turns scores into weights; returns in `correction` what older sums are worth.
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

// out += weights * values, for kParts products of 16 queries x 8 elements.
template <int P, int kParts>
__device__ inline void multiplyValues(const Scores& weights, const BF16* values,
                                      int lane, float (&out)[kParts][4]) {
  constexpr int kStride = Shared<P>::kStride;
  const BF16* row = values + lane % 16 * kStride + lane / 16 * 8;
#pragma unroll
  for (int t = 0; t < kKeys; t += 16) {
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

/// The tokens that any of a tile's queries sees.
struct TokenRange {
  int begin;
  int end;
};

__device__ inline TokenRange tokensOf(const AttentionArgs& a,
                                      const QueryTile& queries, int lane) {
  int begin = INT32_MAX, end = 0;
  for (int i = lane; i < queries.count; i += kWarpLanes) {
    const int position = a.positions[queries.row + i];
    if (position < 0)
      continue;
    const int first = static_cast<int>(firstSeen(a, position));
    begin = first < begin ? first : begin;
    end = position + 1 > end ? position + 1 : end;
  }
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const int otherBegin = __shfl_xor_sync(0xFFFFFFFFu, begin, offset);
    const int otherEnd = __shfl_xor_sync(0xFFFFFFFFu, end, offset);
    begin = otherBegin < begin ? otherBegin : begin;
    end = otherEnd > end ? otherEnd : end;
  }
  return {begin, end};
}

/// P: elements of a head, with padding; kSplit: warps that share 16 queries.
template <int P, int kSplit>
__device__ inline void attendTile(const AttentionArgs& a,
                                  const QueryTile& queries, int64_t head) {
  constexpr int kStride = Shared<P>::kStride;
  constexpr int kParts = P / 8 / kSplit;
  const Shared<P> shared = Shared<P>::get();
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int row = warp / kSplit * 16;               // of the warp's queries
  const int element = warp % kSplit * (P / kSplit); // of its outputs
  const int64_t D = a.D, kvHead = kvHeadOf(a, head);
  const bool vectors =
      D % 8 == 0 && isAligned16(a.keyCache) && isAligned16(a.valueCache);
  const float scale = static_cast<float>(a.scale);
  const float softcap = static_cast<float>(a.softcap);
  const TokenRange tokens = tokensOf(a, queries, lane);
  Queries mine;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane / 4 + half * 8;
    mine.last[half] =
        query < queries.count ? a.positions[queries.row + query] : -1;
    mine.first[half] = mine.last[half] < 0
                           ? 0
                           : static_cast<int>(firstSeen(a, mine.last[half]));
    mine.largest[half] = kNoScore;
    mine.sum[half] = 0.0f;
  }
  float out[kParts][4] = {};
  loadQueries<P>(a, queries, head, shared.q);
  for (int block = tokens.begin / kKeys * kKeys; block < tokens.end;
       block += kKeys) {
    __syncthreads();
    loadPage<P>(cacheToken<BF16>(a.keyCache, a.blockTable, a.pages,
                                 queries.sequence, block, a.KV, D, kvHead),
                D, tokens.begin - block, tokens.end - block, vectors,
                shared.keys);
    loadPage<P>(cacheToken<BF16>(a.valueCache, a.blockTable, a.pages,
                                 queries.sequence, block, a.KV, D, kvHead),
                D, tokens.begin - block, tokens.end - block, vectors,
                shared.values);
    __syncthreads();
    Scores scores;
    multiplyKeys<P>(shared.q + row * kStride, shared.keys, lane, scores);
    float correction[2];
    softmaxStep(mine, block, lane, scale, softcap, scores, correction);
#pragma unroll
    for (int n = 0; n < kParts; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        out[n][i] *= correction[i / 2];
    multiplyValues<P, kParts>(scores, shared.values + element, lane, out);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = row + lane / 4 + half * 8;
    if (query >= queries.count)
      continue;
    const float factor = mine.last[half] < 0 ? 0.0f : 1.0f / mine.sum[half];
    float* to = a.out + (queries.row + query) * a.ldo + head * D;
#pragma unroll
    for (int n = 0; n < kParts; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = element + n * 8 + lane % 4 * 2 + i;
        if (d < D)
          to[d] = out[n][half * 2 + i] * factor;
      }
  }
}

template <int P, int kSplit>
__device__ inline void attentionBf16(const uint64_t* args, int64_t rows,
                                     int64_t cols, int64_t rowTile,
                                     int64_t colTile) {
  const auto& a = argsOf<AttentionArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries = queryTileAt(a, tile.rowBegin, kQueries);
  if (queries.count > 0 && tile.colBegin < a.H)
    attendTile<P, kSplit>(a, queries, tile.colBegin);
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
