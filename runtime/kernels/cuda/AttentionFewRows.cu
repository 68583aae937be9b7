// SPDX-License-Identifier: Apache-2.0
// attention on CUDA for few rows of a sequence (decode): bound by the cache's
// bytes, and with short caches by how many latencies follow each other. One
// block works on the query heads of one row that share a key/value head, so
// that each key and value is read once; gridDim.y blocks share the keys of a
// row, and the last of them to finish adds up what all of them left in scratch,
// in their order.
//
// Inside a block, L neighbouring lanes hold one key (eight elements each) and
// then the value of the same token, with running maximum, sum and output of
// their own for each head: groups of lanes meet only at the end. A group has U
// tokens in flight, and a block takes whole steps of all its groups: fewer
// blocks with full steps, so that fewer results are added up. Keys and values
// that a row does not see are never read.
//
// Before it waits for the launch before, a block asks for the lines of its
// first step to be brought to the second-level cache. The values come from
// there: only words, positions and pages are read early, which no kernel
// writes, and positions and pages are read again behind the wait.
//
// Constraints  D at most 256. Rows at position -1 give zeros. Two forms:
// attention_rows_G_W, with G the most heads of a block and W the widest head,
// for a bf16 cache with D a multiple of 8, ldq of 4, q and cache aligned to 16
// bytes; attention_rows_G for every other. Scratch  with several blocks a row:
// [rows, cols, gridDim.y] of G outputs [D], then of G largest scores and G
// sums, f32; a counter for each row and column (see countersOf). Shared memory
// for each group of lanes the same: see attentionFewRowsShape. Source  Milakov
// and Gimelshein 2018 (online softmax); Dao et al. 2023 (Flash-Decoding).
#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {

constexpr int kThreads = 128;
constexpr int kElements = 8; // of a head, that a lane holds
constexpr int kAddedTogether = 16;

/// How a form reads: T of the cache, G heads, L lanes a key; kWhole: 16 bytes
/// at a time.
template <typename CacheType, int kHeads, int kLanes, bool kIsWhole>
struct Form {
  using T = CacheType;
  static constexpr int G = kHeads;
  static constexpr int L = kLanes;
  static constexpr bool kWhole = kIsWhole;
  static constexpr int U = G <= 4 && sizeof(T) == 2 ? 4 : 2; // tokens in flight
  static constexpr int kGroups = kThreads / L;
  static constexpr int kStep = kGroups * U; // tokens
  static constexpr int E = kWhole ? 4 : 1;  // elements of an access to results
};

template <typename T>
struct RawElements {
  uint4 part[kElements / kVector<T>];
};

/// Loads elements [d, d + kElements) of a head of D, of which the first lies at
/// `from`; elements beyond are 0.
template <typename T, bool kWhole>
__device__ inline RawElements<T> loadElements(const T* from, int d, int D) {
  RawElements<T> raw;
  constexpr int V = kVector<T>;
#pragma unroll
  for (int i = 0; i < kElements / V; ++i) {
    const int first = d + i * V;
    raw.part[i] = make_uint4(0, 0, 0, 0);
    if constexpr (kWhole) {
      if (first < D)
        raw.part[i] = loadOnce(from + i * V);
    } else {
      auto bitsAt = [&](int e) -> uint32_t {
        return e < D ? bitsOfFloat(widen(from[e - d])) : 0u;
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
  int kvHead;
  int64_t head; // the first
  int heads;    // at most G
  int position; // of the row
  int begin;    // tokens
  int end;
  int parts; // blocks that have tokens
};

/// Running results of G heads over some tokens.
template <int G>
struct Running {
  float largest[G];
  float sum[G];
  float out[G][kElements];
};

/// Loads this lane's elements of the queries; those of heads and elements that
/// there are not are 0.
template <typename F>
__device__ inline void loadQueries(const AttentionArgs& a, const Work& work,
                                   int d, float (&q)[F::G][kElements]) {
  const int D = static_cast<int>(a.D);
  const float* first = a.q + work.row * a.ldq + work.head * a.D + d;
#pragma unroll
  for (int g = 0; g < F::G; ++g)
#pragma unroll
    for (int i = 0; i < kElements; i += F::E) {
      const float* from = first + g * D + i;
      const bool isThere = g < work.heads && d + i < D;
      if constexpr (F::kWhole)
        widenVector(isThere ? load16(from) : make_uint4(0, 0, 0, 0), from,
                    &q[g][i]);
      else
        q[g][i] = isThere ? *from : 0.0f;
    }
}

/// Returns where element d of a token lies in a cache.
__device__ inline int64_t placeOf(const AttentionArgs& a, const Work& work,
                                  const PageLayout& layout, int token, int d) {
  const unsigned at = static_cast<unsigned>(token), size = kPageTokens;
  const int64_t page = a.blockTable[work.sequence * a.pages + at / size];
  return (page * a.KV + work.kvHead) * size * a.D +
         layout.placeOf(at % size, d);
}

template <typename F>
__device__ inline void attendTokens(const AttentionArgs& a, const Work& work,
                                    Running<F::G>& run) {
  using T = typename F::T;
  constexpr int G = F::G, L = F::L, U = F::U, groups = F::kGroups;
  const int group = threadIdx.x / L;
  const int D = static_cast<int>(a.D), d = threadIdx.x % L * kElements;
  const float scale = static_cast<float>(a.scale);
  const float softcap = static_cast<float>(a.softcap);
  const PageLayout layout = pageLayout<T>(a.D);
  float q[G][kElements];
  loadQueries<F>(a, work, d, q);
  // All groups of a warp take the same number of steps: they shuffle together.
#pragma unroll 1
  for (int first = work.begin + group; first - group < work.end;
       first += F::kStep) {
    // All pages first: they are on their way together.
    int64_t place[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      // Tokens behind the last are the last once more, with a weight of 0.
      const int last = work.end - 1, mine = first + u * groups;
      place[u] = placeOf(a, work, layout, mine < last ? mine : last, d);
    }
    RawElements<T> keys[U], values[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      keys[u] = loadElements<T, F::kWhole>(
          static_cast<const T*>(a.keyCache) + place[u], d, D);
      values[u] = loadElements<T, F::kWhole>(
          static_cast<const T*>(a.valueCache) + place[u], d, D);
    }
    float score[U][G];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      float key[kElements];
      widenElements(keys[u], key);
#pragma unroll
      for (int g = 0; g < G; ++g) {
        score[u][g] = 0.0f;
#pragma unroll
        for (int i = 0; i < kElements; ++i)
          score[u][g] = fmaf(q[g][i], key[i], score[u][g]);
      }
    }
    // Each step of all sums before the next one of any.
#pragma unroll
    for (int offset = L / 2; offset > 0; offset /= 2)
#pragma unroll
      for (int u = 0; u < U; ++u)
#pragma unroll
        for (int g = 0; g < G; ++g)
          score[u][g] += __shfl_xor_sync(0xFFFFFFFFu, score[u][g], offset);
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int g = 0; g < G; ++g)
        score[u][g] *= scale;
    if (softcap != 0.0f) // once for all: a branch for each would be slower
#pragma unroll
      for (int u = 0; u < U; ++u)
#pragma unroll
        for (int g = 0; g < G; ++g)
          score[u][g] = softcap * tanhf(score[u][g] / softcap);
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float largest = run.largest[g];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        if (first + u * groups >= work.end)
          score[u][g] = kNoScore;
        largest = fmaxf(largest, score[u][g]);
      }
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

/// Several running results of G heads, in shared memory or in scratch.
struct Partials {
  const float* outs;  // [count, G, D]
  const float* stats; // [count, 2, G]: largest scores, then sums
  int count;
};

/// Adds up partial results in their order, B at a time: all that a thread
/// reads of B results is on its way at once. Each thread has elements and the
/// statistics of their head to itself. `write(g, d, values, largest, sum)` gets
/// the sums.
template <typename F, int B, typename Write>
__device__ inline void addUp(const Partials& p, int D, const Write& write) {
  constexpr int G = F::G, E = F::E;
#pragma unroll 1
  for (int e = threadIdx.x * E; e < G * D; e += kThreads * E) {
    const int g = e / D;
    float most = kNoScore, sum = 0.0f, value[E] = {};
#pragma unroll 1
    for (int base = 0; base < p.count; base += B) {
      float largest[B], sums[B], outs[B][E];
#pragma unroll
      for (int i = 0; i < B; ++i) {
        // Those behind the last are the last once more, with a factor of 0.
        const int at = base + i < p.count ? base + i : p.count - 1;
        largest[i] = p.stats[at * 2 * G + g];
        sums[i] = p.stats[at * 2 * G + G + g];
        const float* from = p.outs + at * G * D + e;
        if constexpr (E == 4)
          widenVector(load16(from), from, outs[i]);
        else
          outs[i][0] = *from;
      }
      const float before = most;
#pragma unroll
      for (int i = 0; i < B; ++i)
        most = fmaxf(most, largest[i]);
      const float correction = expOf(before - most);
      sum *= correction;
#pragma unroll
      for (int j = 0; j < E; ++j)
        value[j] *= correction;
#pragma unroll
      for (int i = 0; i < B; ++i) {
        const float factor =
            base + i < p.count ? expOf(largest[i] - most) : 0.0f;
        sum = fmaf(sums[i], factor, sum);
#pragma unroll
        for (int j = 0; j < E; ++j)
          value[j] = fmaf(outs[i][j], factor, value[j]);
      }
    }
    write(g, e % D, value, most, sum);
  }
}

/// Leaves what each group of lanes has found in shared memory.
template <typename F>
__device__ inline Partials storeGroups(const Running<F::G>& run, int D) {
  constexpr int G = F::G, L = F::L;
  const int group = threadIdx.x / L, d = threadIdx.x % L * kElements;
  float* outs = reinterpret_cast<float*>(sharedMemory());
  float* stats = outs + F::kGroups * G * D;
#pragma unroll
  for (int g = 0; g < G; ++g) {
    if (threadIdx.x % L == 0) {
      stats[group * 2 * G + g] = run.largest[g];
      stats[group * 2 * G + G + g] = run.sum[g];
    }
    float* out = outs + (group * G + g) * D + d;
#pragma unroll
    for (int i = 0; i < kElements; i += F::E) {
      if (d + i >= D)
        continue;
      if constexpr (F::kWhole)
        *reinterpret_cast<uint4*>(out + i) = make_uint4(
            bitsOfFloat(run.out[g][i]), bitsOfFloat(run.out[g][i + 1]),
            bitsOfFloat(run.out[g][i + 2]), bitsOfFloat(run.out[g][i + 3]));
      else
        out[i] = run.out[g][i];
    }
  }
  __syncthreads();
  return {outs, stats, F::kGroups};
}

template <typename F>
__device__ inline void attendFewRows(const AttentionArgs& a, const Work& work,
                                     uint8_t* scratch) {
  constexpr int G = F::G, E = F::E;
  Running<G> run;
#pragma unroll
  for (int g = 0; g < G; ++g) {
    run.largest[g] = kNoScore;
    run.sum[g] = 0.0f;
#pragma unroll
    for (int i = 0; i < kElements; ++i)
      run.out[g][i] = 0.0f;
  }
  attendTokens<F>(a, work, run);

  const int D = static_cast<int>(a.D);
  const Partials groups = storeGroups<F>(run, D);
  auto writeOut = [&](int g, int d, const float(&value)[E], float, float sum) {
    float* out = a.out + work.row * a.ldo + (work.head + g) * D + d;
#pragma unroll
    for (int j = 0; j < E; ++j)
      if (g < work.heads)
        out[j] = value[j] / sum;
  };
  if (work.parts == 1)
    return addUp<F, F::kGroups>(groups, D, writeOut);

  float* outs = reinterpret_cast<float*>(scratch) +
                int64_t{blockIdx.x} * gridDim.y * G * D;
  float* stats =
      reinterpret_cast<float*>(scratch) +
      (int64_t{gridDim.x} * D + int64_t{blockIdx.x} * 2) * gridDim.y * G;
  const int part = blockIdx.y;
  addUp<F, F::kGroups>(
      groups, D,
      [&](int g, int d, const float(&value)[E], float most, float sum) {
        float* out = outs + (part * G + g) * D + d;
#pragma unroll
        for (int j = 0; j < E; ++j)
          out[j] = value[j];
        if (d == 0) {
          stats[part * 2 * G + g] = most;
          stats[part * 2 * G + G + g] = sum;
        }
      });
  if (isLastBlock(scratch, blockIdx.x, work.parts))
    addUp<F, kAddedTogether>(Partials{outs, stats, work.parts}, D, writeOut);
}

/// Sets which tokens of a row at `position` are this block's; end is 0 where it
/// has none. Blocks beyond what the keys are worth have nothing to do, and are
/// not waited for.
__device__ inline void takeTokens(const AttentionArgs& a, int position,
                                  int step, Work& work) {
  work.position = position;
  work.end = 0;
  if (position < 0)
    return;
  const int first = static_cast<int>(firstSeen(a, position));
  const int count = position + 1 - first, parts = static_cast<int>(gridDim.y);
  const int steps = (count + step - 1) / step;
  const int perPart = (steps + parts - 1) / parts * step;
  work.parts = (count + perPart - 1) / perPart;
  const int part = blockIdx.y;
  work.begin = first + part * perPart;
  if (part < work.parts)
    work.end = static_cast<int>(least(work.begin + perPart, position + 1));
}

/// Returns this block's row and heads; there are no heads where it has none.
__device__ inline Work workOf(const AttentionArgs& a, int64_t rows,
                              int64_t cols, int64_t rowTile, int64_t colTile,
                              int G) {
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  // Columns: for each key/value head as many as it takes to have all its heads.
  const int chunks = static_cast<int>(cols) / static_cast<int>(a.KV);
  const int col = static_cast<int>(tile.colBegin);
  Work work = {};
  work.row = tile.rowBegin;
  work.kvHead = col / chunks;
  const HeadRange heads = headsOf(a, work.kvHead);
  work.head = heads.begin + col % chunks * G;
  if (work.row >= a.rows || work.head >= heads.end)
    return work;
  work.heads = static_cast<int>(least(G, heads.end - work.head));
  work.sequence =
      static_cast<int>(work.row) / static_cast<int>(a.R); // 32 bits: faster
  return work;
}

/// Asks for the keys and values of a block's first step, of which each thread
/// has a line.
template <typename F>
__device__ inline void prefetchStep(const AttentionArgs& a, const Work& work) {
  using T = typename F::T;
  constexpr int kLine = 128 / sizeof(T);           // elements
  constexpr int kLines = F::L * kElements / kLine; // of a head
#pragma unroll
  for (int at = threadIdx.x; at < F::kStep * kLines; at += kThreads) {
    const int token = work.begin + at / kLines, d = at % kLines * kLine;
    if (token >= work.end || d >= a.D)
      continue;
    const int64_t place = placeOf(a, work, pageLayout<T>(a.D), token, d);
    prefetch(static_cast<const T*>(a.keyCache) + place);
    prefetch(static_cast<const T*>(a.valueCache) + place);
  }
}

template <typename F>
__device__ inline void attentionFewRows(const uint64_t* args, int64_t rows,
                                        int64_t cols, int64_t rowTile,
                                        int64_t colTile, uint8_t* scratch) {
  const AttentionArgs a = argsOf<AttentionArgs>(args); // all at once, early
  // May begin before the launch before it has ended: CudaLaunchShape.
  allowNextLaunch();
  Work work = workOf(a, rows, cols, rowTile, colTile, F::G);
  if (work.heads == 0)
    return waitForPreviousLaunch();
  takeTokens(a, a.positions[work.row], F::kStep, work);
  if constexpr (F::kWhole)
    prefetchStep<F>(a, work);
  waitForPreviousLaunch();
  const int position = a.positions[work.row];
  if (position != work.position)
    takeTokens(a, position, F::kStep, work);
  if (position < 0)
    for (int64_t e = threadIdx.x; blockIdx.y == 0 && e < work.heads * a.D;
         e += kThreads)
      a.out[work.row * a.ldo + work.head * a.D + e] = 0.0f;
  if (work.end > 0)
    attendFewRows<F>(a, work, scratch);
}

template <int G>
__device__ inline void attentionAnyRows(const uint64_t* args, int64_t rows,
                                        int64_t cols, int64_t rowTile,
                                        int64_t colTile, uint8_t* scratch) {
  constexpr int L = kCudaMaxHead / kElements;
  if (isBf16(argsOf<AttentionArgs>(args).dtype))
    attentionFewRows<Form<BF16, G, L, false>>(args, rows, cols, rowTile,
                                              colTile, scratch);
  else
    attentionFewRows<Form<float, G, L, false>>(args, rows, cols, rowTile,
                                               colTile, scratch);
}

} // namespace llmrt::cuda

#define LLMRT_ATTENTION_ROWS(G, W)                                             \
  LLMRT_CUDA_ENTRY(attention_rows_##G##_##W, 128, 2) {                         \
    using namespace llmrt::cuda;                                               \
    attentionFewRows<Form<BF16, G, W / kElements, true>>(                      \
        args, rows, cols, rowTile, colTile, scratch);                          \
  }

#define LLMRT_ATTENTION_HEADS(G)                                               \
  LLMRT_ATTENTION_ROWS(G, 64)                                                  \
  LLMRT_ATTENTION_ROWS(G, 128)                                                 \
  LLMRT_ATTENTION_ROWS(G, 256)                                                 \
  LLMRT_CUDA_ENTRY(attention_rows_##G, 128, 2) {                               \
    llmrt::cuda::attentionAnyRows<G>(args, rows, cols, rowTile, colTile,       \
                                     scratch);                                 \
  }

LLMRT_ATTENTION_HEADS(1)
LLMRT_ATTENTION_HEADS(2)
LLMRT_ATTENTION_HEADS(4)
LLMRT_ATTENTION_HEADS(8)
