// SPDX-License-Identifier: Apache-2.0
// attention on CUDA for few rows of a sequence (decode): bound by the cache's
// bytes. One block works on the query heads of one row that share a key/value
// head, so that each key and value is read once; gridDim.y blocks share the
// keys of a row, and the last of them to finish adds up what all of them left
// in scratch, in their order.
//
// Inside a block, `lanes` neighbouring lanes hold one key (eight elements each)
// and then the value of the same token, with running maximum, sum and output of
// their own for each head: groups of lanes meet only at the end. Keys and
// values that a row does not see are never read.
//
// Constraints  D at most 256; dtype of the cache f32 or bf16. Rows at position
// -1 give zeros. G of attention_rows_G is the most heads of a block. Scratch
// with several blocks a row: [rows, cols, gridDim.y] of G largest scores, G
// sums and G outputs [D], f32; a counter for each row and column (see
// countersOf). Shared memory  for each group of lanes the same: see
// attentionFewRowsSharedBytes. Source  Milakov and Gimelshein 2018 (online
// softmax); Dao et al. 2023 (Flash-Decoding).
#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {

constexpr int kThreads = 128;
constexpr int kElements = 8; // of a head, that a lane holds

template <typename T>
struct RawElements {
  uint4 part[kElements / kVector<T>];
};

/// Loads elements [d, d + kElements) of a head of D; elements beyond are 0.
template <typename T>
__device__ inline RawElements<T> loadElements(const T* head, int64_t d,
                                              int64_t D, bool vectors) {
  RawElements<T> raw;
  constexpr int V = kVector<T>;
#pragma unroll
  for (int i = 0; i < kElements / V; ++i) {
    const int64_t first = d + i * V;
    raw.part[i] = make_uint4(0, 0, 0, 0);
    if (vectors && first < D)
      raw.part[i] = loadOnce(head + first);
    if (vectors)
      continue;
    auto bitsAt = [&](int64_t e) -> uint32_t {
      return e < D ? bitsOfFloat(widen(head[e])) : 0u;
    };
    if constexpr (V == 4)
      raw.part[i] = make_uint4(bitsAt(first), bitsAt(first + 1),
                               bitsAt(first + 2), bitsAt(first + 3));
    else
      raw.part[i] = make_uint4(
          bitsAt(first) >> 16 | (bitsAt(first + 1) & 0xFFFF0000u),
          bitsAt(first + 2) >> 16 | (bitsAt(first + 3) & 0xFFFF0000u),
          bitsAt(first + 4) >> 16 | (bitsAt(first + 5) & 0xFFFF0000u),
          bitsAt(first + 6) >> 16 | (bitsAt(first + 7) & 0xFFFF0000u));
  }
  return raw;
}

template <typename T>
__device__ inline void widenElements(const RawElements<T>& raw,
                                     float (&out)[kElements]) {
#pragma unroll
  for (int i = 0; i < kElements / kVector<T>; ++i)
    widenVector(raw.part[i], static_cast<const T*>(nullptr),
                out + i * kVector<T>);
}

/// What a block works on.
struct Work {
  int64_t row;
  int64_t sequence;
  int64_t kvHead;
  int64_t head;  // the first
  int heads;     // at most G
  int64_t begin; // tokens
  int64_t end;
  int lanes; // of a group
};

/// Running results of G heads over some tokens; d: this lane's elements.
template <int G>
struct Running {
  float largest[G];
  float sum[G];
  float out[G][kElements];
};

template <typename T, int G>
__device__ inline void attendTokens(const AttentionArgs& a, const Work& work,
                                    Running<G>& run) {
  constexpr int U = G <= 4 && sizeof(T) == 2 ? 4 : 2; // tokens in flight
  const int groups = kThreads / work.lanes;
  const int group = threadIdx.x / work.lanes;
  const int64_t D = a.D, d = threadIdx.x % work.lanes * kElements;
  const float scale = static_cast<float>(a.scale);
  const float softcap = static_cast<float>(a.softcap);
  const bool vectors = D % kVector<T> == 0 && isAligned16(a.keyCache) &&
                       isAligned16(a.valueCache);
  float q[G][kElements];
#pragma unroll
  for (int g = 0; g < G; ++g)
#pragma unroll
    for (int i = 0; i < kElements; ++i)
      q[g][i] = g < work.heads && d + i < D
                    ? a.q[work.row * a.ldq + (work.head + g) * D + d + i]
                    : 0.0f;
  // All groups of a warp take the same number of steps: they shuffle together.
  const int64_t steps = (work.end - work.begin + groups * U - 1) / (groups * U);
  for (int64_t step = 0; step < steps; ++step) {
    RawElements<T> keys[U], values[U];
    const int64_t first = work.begin + step * groups * U + group;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      // Tokens behind the last are the last once more, with a weight of 0.
      const int64_t token = least(first + u * groups, work.end - 1);
      keys[u] = loadElements(cacheToken<T>(a.keyCache, a.blockTable, a.pages,
                                           work.sequence, token, a.KV, D,
                                           work.kvHead),
                             d, D, vectors);
      values[u] = loadElements(cacheToken<T>(a.valueCache, a.blockTable,
                                             a.pages, work.sequence, token,
                                             a.KV, D, work.kvHead),
                               d, D, vectors);
    }
    float score[U][G];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float key[kElements];
      widenElements(keys[u], key);
#pragma unroll
      for (int g = 0; g < G; ++g) {
        float product = 0.0f;
#pragma unroll
        for (int i = 0; i < kElements; ++i)
          product = fmaf(q[g][i], key[i], product);
        product = sumOfLanes(product, work.lanes);
        score[u][g] = first + u * groups < work.end
                          ? scoreOf(product, scale, softcap)
                          : kNoScore;
      }
    }
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float largest = run.largest[g];
#pragma unroll
      for (int u = 0; u < U; ++u)
        largest = fmaxf(largest, score[u][g]);
      const float correction = expOf(run.largest[g] - largest);
      run.largest[g] = largest;
      run.sum[g] *= correction;
#pragma unroll
      for (int i = 0; i < kElements; ++i)
        run.out[g][i] *= correction;
#pragma unroll
      for (int u = 0; u < U; ++u) {
        score[u][g] =
            first + u * groups < work.end ? expOf(score[u][g] - largest) : 0.0f;
        run.sum[g] += score[u][g];
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float value[kElements];
      widenElements(values[u], value);
#pragma unroll
      for (int g = 0; g < G; ++g)
#pragma unroll
        for (int i = 0; i < kElements; ++i)
          run.out[g][i] = fmaf(score[u][g], value[i], run.out[g][i]);
    }
  }
}

/// Several running results of G heads, as they lie in shared memory or in
/// scratch.
template <int G>
struct Partials {
  const float* largest; // [count, G]
  const float* sum;     // [count, G]
  const float* out; // [count, G, D], each result `stride` floats after the last
  int64_t stride;
  int64_t statsStride;
  int count;
};

/// Adds up partial results in their order: factors [count, G] in shared memory
/// first, then each thread some elements. `write(g, d, value, largest, sum)`
/// gets the sums.
template <int G, typename Write>
__device__ inline void addUp(const Partials<G>& p, int64_t D, float* factors,
                             const Write& write) {
  float* largest = factors + p.count * G; // [G], then sums [G]
  if (threadIdx.x < G) {
    const int g = threadIdx.x;
    float most = kNoScore, sum = 0.0f;
    for (int i = 0; i < p.count; ++i)
      most = fmaxf(most, p.largest[i * p.statsStride + g]);
    for (int i = 0; i < p.count; ++i) {
      const float factor = expOf(p.largest[i * p.statsStride + g] - most);
      factors[i * G + g] = factor;
      sum = fmaf(p.sum[i * p.statsStride + g], factor, sum);
    }
    largest[g] = most;
    largest[G + g] = sum;
  }
  __syncthreads();
  for (int64_t e = threadIdx.x; e < G * D; e += kThreads) {
    const int g = static_cast<int>(e / D);
    const int64_t d = e % D;
    float value = 0.0f;
    for (int i = 0; i < p.count; ++i)
      value = fmaf(p.out[i * p.stride + g * D + d], factors[i * G + g], value);
    write(g, d, value, largest[g], largest[G + g]);
  }
}

template <typename T, int G>
__device__ inline void attendFewRows(const AttentionArgs& a, const Work& work,
                                     int part, int parts, int64_t counter,
                                     uint8_t* scratch) {
  Running<G> run;
#pragma unroll
  for (int g = 0; g < G; ++g) {
    run.largest[g] = kNoScore;
    run.sum[g] = 0.0f;
#pragma unroll
    for (int i = 0; i < kElements; ++i)
      run.out[g][i] = 0.0f;
  }
  attendTokens<T, G>(a, work, run);

  const int groups = kThreads / work.lanes, group = threadIdx.x / work.lanes;
  const int64_t D = a.D, d = threadIdx.x % work.lanes * kElements;
  float* shared = reinterpret_cast<float*>(sharedMemory());
  float* largest = shared;                // [groups, G]
  float* sums = largest + groups * G;     // [groups, G]
  float* outs = sums + groups * G;        // [groups, G, D]
  float* factors = outs + groups * G * D; // [max(groups, parts) + 2, G]
#pragma unroll
  for (int g = 0; g < G; ++g) {
    if (threadIdx.x % work.lanes == 0) {
      largest[group * G + g] = run.largest[g];
      sums[group * G + g] = run.sum[g];
    }
#pragma unroll
    for (int i = 0; i < kElements; ++i)
      if (d + i < D)
        outs[(group * G + g) * D + d + i] = run.out[g][i];
  }
  __syncthreads();
  const Partials<G> groupResults{largest, sums, outs, G * D, G, groups};
  auto writeOut = [&](int g, int64_t e, float value, float, float sum) {
    if (g < work.heads)
      a.out[work.row * a.ldo + (work.head + g) * D + e] = value / sum;
  };
  if (parts == 1)
    return addUp<G>(groupResults, D, factors, writeOut);

  // Of each part: G largest scores, G sums, G outputs.
  const int64_t partFloats = G * (D + 2);
  float* all =
      reinterpret_cast<float*>(scratch) + counter * gridDim.y * partFloats;
  float* mine = all + part * partFloats;
  addUp<G>(groupResults, D, factors,
           [&](int g, int64_t e, float value, float most, float sum) {
             mine[2 * G + g * D + e] = value;
             if (e == 0) {
               mine[g] = most;
               mine[G + g] = sum;
             }
           });
  __threadfence();
  __syncthreads();
  __shared__ unsigned finished;
  if (threadIdx.x == 0)
    finished = atomicInc(countersOf(scratch) + counter, parts - 1);
  __syncthreads();
  if (finished != static_cast<unsigned>(parts) - 1)
    return;
  __threadfence();
  addUp<G>(
      Partials<G>{all, all + G, all + 2 * G, partFloats, partFloats, parts}, D,
      factors, writeOut);
}

template <int G>
__device__ inline void attentionFewRows(const uint64_t* args, int64_t rows,
                                        int64_t cols, int64_t rowTile,
                                        int64_t colTile, uint8_t* scratch) {
  const auto& a = argsOf<AttentionArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  // Columns: for each key/value head as many as it takes to have all its heads.
  const int64_t chunks = cols / a.KV;
  Work work;
  work.row = tile.rowBegin;
  work.kvHead = tile.colBegin / chunks;
  const HeadRange heads = headsOf(a, work.kvHead);
  work.head = heads.begin + tile.colBegin % chunks * G;
  work.heads = static_cast<int>(least(G, heads.end - work.head));
  // May begin before the launch before it has ended: CudaLaunchShape.
  allowNextLaunch();
  waitForPreviousLaunch();
  if (work.row >= a.rows || work.heads <= 0)
    return;
  const int64_t position = a.positions[work.row];
  if (position < 0) {
    for (int64_t e = threadIdx.x; blockIdx.y == 0 && e < work.heads * a.D;
         e += kThreads)
      a.out[work.row * a.ldo + work.head * a.D + e] = 0.0f;
    return;
  }
  work.sequence = work.row / a.R;
  work.lanes = 1;
  while (work.lanes * kElements < a.D)
    work.lanes *= 2;
  // Blocks beyond what the keys are worth have nothing to do, and are not
  // waited for.
  const int64_t first = firstSeen(a, position), count = position + 1 - first;
  const int64_t perPart = roundUp((count + gridDim.y - 1) / gridDim.y, 16);
  const int parts = static_cast<int>((count + perPart - 1) / perPart);
  const int part = blockIdx.y;
  if (part >= parts)
    return;
  work.begin = first + part * perPart;
  work.end = least(work.begin + perPart, position + 1);
  const int64_t counter = work.row * cols + tile.colBegin;
  if (isBf16(a.dtype))
    attendFewRows<BF16, G>(a, work, part, parts, counter, scratch);
  else
    attendFewRows<float, G>(a, work, part, parts, counter, scratch);
}

} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_rows_1, 128) {
  llmrt::cuda::attentionFewRows<1>(args, rows, cols, rowTile, colTile, scratch);
}

LLMRT_CUDA_ENTRY(attention_rows_2, 128) {
  llmrt::cuda::attentionFewRows<2>(args, rows, cols, rowTile, colTile, scratch);
}

LLMRT_CUDA_ENTRY(attention_rows_4, 128, 2) {
  llmrt::cuda::attentionFewRows<4>(args, rows, cols, rowTile, colTile, scratch);
}

LLMRT_CUDA_ENTRY(attention_rows_8, 128, 2) {
  llmrt::cuda::attentionFewRows<8>(args, rows, cols, rowTile, colTile, scratch);
}
