// SPDX-License-Identifier: Apache-2.0
// Attention of 16 queries of one head in plain f32, over keys that a source
// gives 32 at a time: what the f32 forms of `attention` and `attention_rows`
// share, so that both give the same bits. Queries, keys and values lie in
// shared memory; each thread owns two scores of a step and every 16th element
// of an output.
//
// Source  Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022.
#pragma once

#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {

inline constexpr int kPlainQueries = 16;
inline constexpr int kPlainKeys = 32;
inline constexpr int kPlainThreads = 256;
inline constexpr int kThreadsPerQuery = kPlainThreads / kPlainQueries;
inline constexpr int kOwned = static_cast<int>(kCudaMaxHead) / kThreadsPerQuery;

/// Where things lie in shared memory.
struct PlainShared {
  float* q;      // [kPlainQueries, D]
  float* keys;   // [kPlainKeys, D + 1]
  float* values; // [kPlainKeys, D]
  float* scores; // [kPlainQueries, kPlainKeys + 1]
};

__device__ inline PlainShared plainSharedOf(int64_t D) {
  PlainShared s;
  s.q = reinterpret_cast<float*>(sharedMemory());
  s.keys = s.q + kPlainQueries * D;
  s.values = s.keys + kPlainKeys * (D + 1);
  s.scores = s.values + kPlainKeys * D;
  return s;
}

/// Tokens [begin, end).
struct PlainTokens {
  int64_t begin;
  int64_t end;
};

/// Queries of one head.
struct PlainTile {
  const float* q; // of the first query
  int64_t ldq;
  float* out;
  int64_t ldo;
  int64_t count; // up to kPlainQueries
  int64_t D;
  float scale;
  float softcap;
};

/// Attends. source.seen(query) is the query's PlainTokens, empty for one
/// without work; source.at(token, d, key, value) reads an element of a token;
/// source.finish(query, largest, sum) takes what the softmax of a query was.
template <typename Source>
__device__ inline void attendPlainTile(const PlainTile& tile,
                                       const Source& source) {
  const int64_t D = tile.D;
  const PlainShared s = plainSharedOf(D);
  const int query = threadIdx.x / kThreadsPerQuery;
  const int part = threadIdx.x % kThreadsPerQuery;
  for (int64_t e = threadIdx.x; e < tile.count * D; e += kPlainThreads)
    s.q[e] = tile.q[e / D * tile.ldq + e % D];
  int64_t begin = INT64_MAX, end = 0;
  for (int64_t i = 0; i < tile.count; ++i) {
    const PlainTokens seen = source.seen(i);
    if (seen.end == 0)
      continue;
    begin = least(begin, seen.begin);
    end = greatest(end, seen.end);
  }
  const bool isQuery = query < tile.count;
  const PlainTokens mine = isQuery ? source.seen(query) : PlainTokens{0, 0};
  float largest = kNoScore, sum = 0.0f, out[kOwned] = {};
  // Steps begin at multiples of kPlainKeys: the bits of a query do not depend
  // on the others.
  for (int64_t block = begin / kPlainKeys * kPlainKeys; block < end;
       block += kPlainKeys) {
    __syncthreads();
    for (int64_t e = threadIdx.x; e < kPlainKeys * D; e += kPlainThreads) {
      const int64_t t = e / D, d = e % D;
      float key = 0.0f, value = 0.0f;
      if (block + t >= begin && block + t < end)
        source.at(block + t, d, key, value);
      s.keys[t * (D + 1) + d] = key;
      s.values[t * D + d] = value;
    }
    __syncthreads();
    float score[kPlainKeys / kThreadsPerQuery];
    float most = largest;
#pragma unroll
    for (int i = 0; i < kPlainKeys / kThreadsPerQuery; ++i) {
      const int key = part + i * kThreadsPerQuery;
      float product = 0.0f;
      for (int64_t d = 0; d < D; ++d)
        product = fmaf(s.q[query * D + d], s.keys[key * (D + 1) + d], product);
      const int64_t token = block + key;
      score[i] = mine.begin <= token && token < mine.end
                     ? scoreOf(product, tile.scale, tile.softcap)
                     : kNoScore;
      most = fmaxf(most, score[i]);
    }
    for (int offset = kThreadsPerQuery / 2; offset > 0; offset /= 2)
      most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, offset));
    const float correction = expOf(largest - most);
    largest = most;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kPlainKeys / kThreadsPerQuery; ++i) {
      const float weight = score[i] == kNoScore ? 0.0f : expOf(score[i] - most);
      s.scores[query * (kPlainKeys + 1) + part + i * kThreadsPerQuery] = weight;
      total += weight;
    }
    sum = sum * correction + sumOfLanes(total, kThreadsPerQuery);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kOwned; ++i)
      out[i] *= correction;
    for (int t = 0; t < kPlainKeys; ++t) {
      const float weight = s.scores[query * (kPlainKeys + 1) + t];
#pragma unroll
      for (int i = 0; i < kOwned; ++i)
        if (part + i * kThreadsPerQuery < D)
          out[i] = fmaf(weight, s.values[t * D + part + i * kThreadsPerQuery],
                        out[i]);
    }
  }
  if (!isQuery)
    return;
  if (part == 0)
    source.finish(query, largest, sum);
  float* to = tile.out + query * tile.ldo;
#pragma unroll
  for (int i = 0; i < kOwned; ++i)
    if (part + i * kThreadsPerQuery < D)
      to[part + i * kThreadsPerQuery] = mine.end == 0 ? 0.0f : out[i] / sum;
}

} // namespace llmrt::cuda
