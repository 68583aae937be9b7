// SPDX-License-Identifier: Apache-2.0
// attention_gradient on CUDA in plain f32: for f32 keys and values (parity).
// A block owns 16 rows and walks others 32 at a time; each thread owns two
// scores of a step and every 16th element of its row's gradients.
//
// Constraints  D at most 256; dtype f32.    Shared memory  rows of both kinds,
// weights and their gradients, numbers of queries.    Scratch  none.
// Source  Dao et al. 2022 (FlashAttention).
#include "runtime/kernels/cuda/AttentionGradient.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kOwnRows = 16;
constexpr int kOthers = 32;
constexpr int kThreads = 256;
constexpr int kThreadsPerRow = kThreads / kOwnRows;
constexpr int kOwned = static_cast<int>(kCudaMaxHead) / kThreadsPerRow;

/// Rows of one head, the k or v (q or dout) of which a product reads.
struct Rows {
  const float* data; // of row 0 of the sequence
  int64_t ld;
};

/// Where things lie in shared memory. Own rows are [kOwnRows, D], the others'
/// [kOthers, D + 1]; `first` of both is k or q, `second` v or dout.
struct Shared {
  float* ownFirst;
  float* ownSecond;
  float* first;
  float* second;
  float* weights;   // [kOwnRows, kOthers + 1]
  float* gradients; // the same
  QueryNumbers numbers;
};

__device__ inline Shared sharedOf(int64_t D) {
  constexpr int64_t square = kOwnRows * (kOthers + 1);
  float* at = reinterpret_cast<float*>(sharedMemory());
  Shared s;
  s.ownFirst = at;
  s.ownSecond = s.ownFirst + kOwnRows * D;
  s.first = s.ownSecond + kOwnRows * D;
  s.second = s.first + kOthers * (D + 1);
  s.weights = s.second + kOthers * (D + 1);
  s.gradients = s.weights + square;
  float* numbers = s.gradients + square;
  s.numbers = {numbers, numbers + kOthers,
               reinterpret_cast<int*>(numbers + 2 * kOthers)};
  return s;
}

__device__ inline void loadRows(const AttentionGradientArgs& a, Rows from,
                                int64_t begin, int size, int64_t stride,
                                float* to) {
  for (int64_t e = threadIdx.x; e < size * a.D; e += kThreads) {
    const int64_t r = e / a.D, d = e % a.D;
    to[r * stride + d] =
        begin + r < a.R ? from.data[(begin + r) * from.ld + d] : 0.0f;
  }
}

/// The sums of a thread: of its row, every 16th element.
using Sums = float[kOwned];

// One step: the thread's row with the others from `begin`.
template <bool kKeysOwn>
__device__ inline void addStep(const AttentionGradientArgs& a,
                               const OwnRows& own, const Shared& s,
                               int64_t begin, Sums& first, Sums& second) {
  const int64_t D = a.D;
  const int row = threadIdx.x / kThreadsPerRow;
  const int part = threadIdx.x % kThreadsPerRow;
  const Scoring scoring = {static_cast<float>(a.scale),
                           static_cast<float>(a.softcap)};
#pragma unroll
  for (int i = 0; i < kOthers / kThreadsPerRow; ++i) {
    const int other = part + i * kThreadsPerRow;
    float product = 0.0f, gradient = 0.0f;
    for (int64_t d = 0; d < D; ++d) {
      product =
          fmaf(s.ownFirst[row * D + d], s.first[other * (D + 1) + d], product);
      gradient = fmaf(s.ownSecond[row * D + d], s.second[other * (D + 1) + d],
                      gradient);
    }
    const int query = kKeysOwn ? other : row;
    const int64_t key = kKeysOwn ? own.begin + row : begin + other;
    const int64_t index = kKeysOwn ? begin + other : own.begin + row;
    const bool isSeen = s.numbers.first[query] <= key && key <= index;
    differentiate<true>(scoring, isSeen, s.numbers.logSum[query],
                        s.numbers.delta[query], product, gradient);
    s.weights[row * (kOthers + 1) + other] = product;
    s.gradients[row * (kOthers + 1) + other] = gradient;
  }
  __syncwarp(); // a row's threads are of one warp
  for (int t = 0; t < kOthers; ++t) {
    const float weight = s.weights[row * (kOthers + 1) + t];
    const float gradient = s.gradients[row * (kOthers + 1) + t];
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      const int d = part + i * kThreadsPerRow;
      if (d >= D)
        continue;
      first[i] = fmaf(gradient, s.first[t * (D + 1) + d], first[i]);
      if (kKeysOwn)
        second[i] = fmaf(weight, s.second[t * (D + 1) + d], second[i]);
    }
  }
}

__device__ inline void storeRow(const AttentionGradientArgs& a,
                                const OwnRows& own, const Sums& sums,
                                int64_t head, int64_t ld, float* to) {
  const int row = threadIdx.x / kThreadsPerRow;
  const int part = threadIdx.x % kThreadsPerRow;
  if (row >= own.count)
    return;
  to += (own.sequence * a.R + own.begin + row) * ld + head * a.D;
#pragma unroll
  for (int i = 0; i < kOwned; ++i)
    if (part + i * kThreadsPerRow < a.D)
      to[part + i * kThreadsPerRow] = sums[i];
}

__device__ inline void addKeys(const AttentionGradientArgs& a,
                               const OwnRows& own, const Shared& s, Rows k,
                               Rows v) {
  Sums dk = {}, dv = {};
  loadRows(a, k, own.begin, kOwnRows, a.D, s.ownFirst);
  loadRows(a, v, own.begin, kOwnRows, a.D, s.ownSecond);
  const HeadRange heads = headsOf(a, own.kvHead);
  const int64_t row = own.sequence * a.R;
  for (int64_t head = heads.begin; head < heads.end; ++head)
    for (int64_t begin = own.begin / kOthers * kOthers; begin < a.R;
         begin += kOthers) {
      __syncthreads();
      loadNumbers(a, own.sequence, begin, kOthers, head, s.numbers);
      __syncthreads();
      if (firstOf(s.numbers, kOthers) >= own.begin + own.count)
        continue;
      loadRows(a, {a.q + row * a.ldq + head * a.D, a.ldq}, begin, kOthers,
               a.D + 1, s.first);
      loadRows(a, {a.dout + row * a.lddo + head * a.D, a.lddo}, begin, kOthers,
               a.D + 1, s.second);
      __syncthreads();
      addStep<true>(a, own, s, begin, dk, dv);
    }
  storeRow(a, own, dk, own.kvHead, a.lddk, a.dk);
  storeRow(a, own, dv, own.kvHead, a.lddv, a.dv);
}

__device__ inline void addQueries(const AttentionGradientArgs& a,
                                  const OwnRows& own, const Shared& s, Rows k,
                                  Rows v) {
  Sums dq = {}, none = {};
  const int64_t row = own.sequence * a.R;
  loadRows(a, {a.q + row * a.ldq + own.head * a.D, a.ldq}, own.begin, kOwnRows,
           a.D, s.ownFirst);
  loadRows(a, {a.dout + row * a.lddo + own.head * a.D, a.lddo}, own.begin,
           kOwnRows, a.D, s.ownSecond);
  loadNumbers(a, own.sequence, own.begin, kOwnRows, own.head, s.numbers);
  __syncthreads();
  const int64_t first = firstOf(s.numbers, kOwnRows);
  for (int64_t begin = first / kOthers * kOthers; begin < own.begin + own.count;
       begin += kOthers) {
    __syncthreads();
    loadRows(a, k, begin, kOthers, a.D + 1, s.first);
    loadRows(a, v, begin, kOthers, a.D + 1, s.second);
    __syncthreads();
    addStep<false>(a, own, s, begin, dq, none);
  }
  storeRow(a, own, dq, own.head, a.lddq, a.dq);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_gradient, 256, 1) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionGradientArgs>(args);
  const OwnRows own =
      ownRowsOf(a, blockTile(rows, cols, rowTile, colTile), kOwnRows);
  if (own.count <= 0)
    return;
  const Shared s = sharedOf(a.D);
  const int64_t row = own.sequence * a.R;
  const Rows k = {a.k + row * a.ldk + own.kvHead * a.D, a.ldk};
  const Rows v = {a.v + row * a.ldv + own.kvHead * a.D, a.ldv};
  if (own.head < 0)
    addKeys(a, own, s, k, v);
  else
    addQueries(a, own, s, k, v);
}
