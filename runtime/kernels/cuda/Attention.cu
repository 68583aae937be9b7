// SPDX-License-Identifier: Apache-2.0
// attention on CUDA for many rows of a sequence, in plain f32: for f32 caches
// (parity) and for heads that the tensor core form does not take. One block
// works on 16 queries of one head and on 32 keys at a time, held in shared
// memory; each thread owns two scores of a step and every 16th element of an
// output.
//
// Constraints  D at most 256; dtype of the cache f32 or bf16. Rows at position
// -1 give zeros. The cache holds every token from the first that a row of a
// tile sees to the last. Shared memory  attentionSharedBytes.    Scratch  none.
// Source  Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022.
#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kQueries = 16;
constexpr int kKeys = 32;
constexpr int kThreads = 256;
constexpr int kThreadsPerQuery = kThreads / kQueries;
constexpr int kOwned = static_cast<int>(kCudaMaxHead) / kThreadsPerQuery;

/// Where things lie in shared memory.
struct Shared {
  float* q;      // [kQueries, D]
  float* keys;   // [kKeys, D + 1]
  float* values; // [kKeys, D]
  float* scores; // [kQueries, kKeys + 1]
};

__device__ inline Shared sharedOf(int64_t D) {
  Shared s;
  s.q = reinterpret_cast<float*>(sharedMemory());
  s.keys = s.q + kQueries * D;
  s.values = s.keys + kKeys * (D + 1);
  s.scores = s.values + kKeys * D;
  return s;
}

// Keys and values [begin, end) of the cache; zeros behind them.
template <typename T>
__device__ inline void loadBlock(const AttentionArgs& a, int64_t sequence,
                                 int64_t kvHead, int64_t begin, int64_t end,
                                 const Shared& s) {
  const int64_t D = a.D;
  for (int64_t e = threadIdx.x; e < kKeys * D; e += kThreads) {
    const int64_t t = e / D, d = e % D;
    float key = 0.0f, value = 0.0f;
    if (begin + t < end) {
      key = widen(cacheToken<T>(a.keyCache, a.blockTable, a.pages, sequence,
                                begin + t, a.KV, D, kvHead)[d]);
      value = widen(cacheToken<T>(a.valueCache, a.blockTable, a.pages, sequence,
                                  begin + t, a.KV, D, kvHead)[d]);
    }
    s.keys[t * (D + 1) + d] = key;
    s.values[t * D + d] = value;
  }
}

template <typename T>
__device__ inline void attendTile(const AttentionArgs& a,
                                  const QueryTile& queries, int64_t head) {
  const int64_t D = a.D, kvHead = kvHeadOf(a, head);
  const Shared s = sharedOf(D);
  const int query = threadIdx.x / kThreadsPerQuery;
  const int part = threadIdx.x % kThreadsPerQuery;
  const float scale = static_cast<float>(a.scale);
  const float softcap = static_cast<float>(a.softcap);
  for (int64_t e = threadIdx.x; e < queries.count * D; e += kThreads)
    s.q[e] = a.q[(queries.row + e / D) * a.ldq + head * D + e % D];
  int64_t begin = INT64_MAX, end = 0;
  for (int64_t i = 0; i < queries.count; ++i) {
    const int64_t position = a.positions[queries.row + i];
    if (position < 0)
      continue;
    begin = least(begin, firstSeen(a, position));
    end = greatest(end, position + 1);
  }
  const bool isQuery = query < queries.count;
  const int64_t last = isQuery ? a.positions[queries.row + query] : -1;
  const int64_t first = last < 0 ? 0 : firstSeen(a, last);
  float largest = kNoScore, sum = 0.0f, out[kOwned] = {};
  for (int64_t block = begin; block < end; block += kKeys) {
    __syncthreads();
    loadBlock<T>(a, queries.sequence, kvHead, block, end, s);
    __syncthreads();
    float score[kKeys / kThreadsPerQuery];
    float most = largest;
#pragma unroll
    for (int i = 0; i < kKeys / kThreadsPerQuery; ++i) {
      const int key = part + i * kThreadsPerQuery;
      float product = 0.0f;
      for (int64_t d = 0; d < D; ++d)
        product = fmaf(s.q[query * D + d], s.keys[key * (D + 1) + d], product);
      const int64_t token = block + key;
      score[i] = isQuery && first <= token && token <= last
                     ? scoreOf(product, scale, softcap)
                     : kNoScore;
      most = fmaxf(most, score[i]);
    }
    for (int offset = kThreadsPerQuery / 2; offset > 0; offset /= 2)
      most = fmaxf(most, __shfl_xor_sync(0xFFFFFFFFu, most, offset));
    const float correction = expOf(largest - most);
    largest = most;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kKeys / kThreadsPerQuery; ++i) {
      const float weight = score[i] == kNoScore ? 0.0f : expOf(score[i] - most);
      s.scores[query * (kKeys + 1) + part + i * kThreadsPerQuery] = weight;
      total += weight;
    }
    sum = sum * correction + sumOfLanes(total, kThreadsPerQuery);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kOwned; ++i)
      out[i] *= correction;
    for (int t = 0; t < kKeys; ++t) {
      const float weight = s.scores[query * (kKeys + 1) + t];
#pragma unroll
      for (int i = 0; i < kOwned; ++i)
        if (part + i * kThreadsPerQuery < D)
          out[i] = fmaf(weight, s.values[t * D + part + i * kThreadsPerQuery],
                        out[i]);
    }
  }
  if (!isQuery)
    return;
  float* to = a.out + (queries.row + query) * a.ldo + head * D;
#pragma unroll
  for (int i = 0; i < kOwned; ++i)
    if (part + i * kThreadsPerQuery < D)
      to[part + i * kThreadsPerQuery] = last < 0 ? 0.0f : out[i] / sum;
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries = queryTileAt(a, tile.rowBegin, kQueries);
  if (queries.count <= 0 || tile.colBegin >= a.H)
    return;
  if (isBf16(a.dtype))
    attendTile<BF16>(a, queries, tile.colBegin);
  else
    attendTile<float>(a, queries, tile.colBegin);
}
