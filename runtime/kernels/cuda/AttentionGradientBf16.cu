// SPDX-License-Identifier: Apache-2.0
// attention_gradient on CUDA where keys and values are rounded to bf16: tensor
// cores. A block owns 64 rows, a warp 16 of them, and walks others 64 at a
// time. Weights and their gradients stay in registers: a product's result has
// the layout that the next one wants of its first factor. Queries, dout,
// weights and their gradients are rounded to bf16 (nearest even), sums are f32.
// With heads of 256 two warps share 16 rows: each finds all scores, and half of
// the gradients.
//
// Constraints  D at most P of attention_gradient_bf16_P; dtype bf16.
// Shared memory  rows of both kinds, numbers of queries.    Scratch  none.
// Source  Dao 2023 (FlashAttention-2); PTX ISA, fragments of mma.m16n8k16.
#include "runtime/kernels/cuda/AttentionBf16Tile.cuh"
#include "runtime/kernels/cuda/AttentionGradient.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kRows = 64; // own ones, and others in shared memory
static_assert(kRows == kTileQueries && kRows == kKeys);
constexpr int kStep = 32; // others that are multiplied at a time

/// Products of a warp's 16 rows and the others of a step.
using Products = float[kStep / 8][4];

/// Where things lie in shared memory: [kRows, kHeadStride] each; `first` of own
/// rows and others is k or q, `second` v or dout.
template <int P>
struct Shared {
  BF16* ownFirst;
  BF16* ownSecond;
  BF16* first;
  BF16* second;
  QueryNumbers numbers;

  __device__ static Shared get() {
    constexpr int size = kRows * kHeadStride<P>;
    auto* rows = reinterpret_cast<BF16*>(sharedMemory());
    auto* numbers = reinterpret_cast<float*>(rows + 4 * size);
    return {rows,
            rows + size,
            rows + 2 * size,
            rows + 3 * size,
            {numbers, numbers + kRows,
             reinterpret_cast<int*>(numbers + 2 * kRows)}};
  }
};

/// Rows of one head.
struct Rows {
  const float* data; // of row 0 of the sequence
  int64_t ld;
};

/// The part of a block that a warp does.
struct Warp {
  int lane;
  int row;     // of 16
  int element; // of its gradients
};

template <int P>
__device__ inline void loadRows(const AttentionGradientArgs& a, Rows from,
                                int64_t begin, BF16* to) {
  loadRounded<P>(from.data + begin * from.ld, from.ld, a.D, 0, a.R - begin, to);
}

// Turns products of 16 own rows and the others from `step` into weights and
// gradients.
template <bool kKeysOwn>
__device__ inline void
differentiateStep(const Scoring& scoring, const QueryNumbers& numbers,
                  const Warp& warp, int ownBegin, int begin, int step,
                  Products& products, Products& gradients) {
#pragma unroll
  for (int j = 0; j < kStep / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int own = warp.row + warp.lane / 4 + i / 2 * 8;
      const int other = step + j * 8 + warp.lane % 4 * 2 + i % 2;
      const int query = kKeysOwn ? other : own;
      const int key = kKeysOwn ? ownBegin + own : begin + other;
      const int index = kKeysOwn ? begin + other : ownBegin + own;
      const bool isSeen = numbers.first[query] <= key && key <= index;
      differentiate<false>(scoring, isSeen, numbers.logSum[query],
                           numbers.delta[query], products[j][i],
                           gradients[j][i]);
    }
}

template <int P, int kParts>
__device__ inline void
storeRows(const AttentionGradientArgs& a, const OwnRows& own, const Warp& warp,
          const float (&sums)[kParts][4], int64_t head, int64_t ld, float* to) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp.row + warp.lane / 4 + half * 8;
    if (row >= own.count)
      continue;
    float* line = to + (own.sequence * a.R + own.begin + row) * ld + head * a.D;
#pragma unroll
    for (int n = 0; n < kParts; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = warp.element + n * 8 + warp.lane % 4 * 2 + i;
        if (d < a.D)
          line[d] = sums[n][half * 2 + i];
      }
  }
}

template <int P, int kSplit>
__device__ inline void addKeys(const AttentionGradientArgs& a,
                               const OwnRows& own, const Scoring& scoring,
                               const Shared<P>& s, const Warp& warp) {
  constexpr int kParts = P / 8 / kSplit;
  const int offset = warp.row * kHeadStride<P>;
  float dk[kParts][4] = {}, dv[kParts][4] = {};
  const HeadRange heads = headsOf(a, own.kvHead);
  const int64_t row = own.sequence * a.R;
  for (int64_t head = heads.begin; head < heads.end; ++head)
    for (int64_t begin = own.begin; begin < a.R; begin += kRows) {
      __syncthreads();
      loadNumbers(a, own.sequence, begin, kRows, head, s.numbers);
      __syncthreads();
      if (firstOf(s.numbers, kRows) >= own.begin + own.count)
        continue;
      loadRows<P>(a, {a.q + row * a.ldq + head * a.D, a.ldq}, begin, s.first);
      loadRows<P>(a, {a.dout + row * a.lddo + head * a.D, a.lddo}, begin,
                  s.second);
      __syncthreads();
#pragma unroll 1
      for (int step = 0; step < kRows; step += kStep) {
        const BF16* q = s.first + step * kHeadStride<P>;
        const BF16* dout = s.second + step * kHeadStride<P>;
        Products weights, gradients;
        multiplyKeys<P>(s.ownFirst + offset, q, warp.lane, weights);
        multiplyKeys<P>(s.ownSecond + offset, dout, warp.lane, gradients);
        differentiateStep<true>(
            scoring, s.numbers, warp, static_cast<int>(own.begin),
            static_cast<int>(begin), step, weights, gradients);
        multiplyValues<P>(weights, dout + warp.element, warp.lane, dv);
        multiplyValues<P>(gradients, q + warp.element, warp.lane, dk);
      }
    }
  storeRows<P, kParts>(a, own, warp, dk, own.kvHead, a.lddk, a.dk);
  storeRows<P, kParts>(a, own, warp, dv, own.kvHead, a.lddv, a.dv);
}

template <int P, int kSplit>
__device__ inline void addQueries(const AttentionGradientArgs& a,
                                  const OwnRows& own, const Scoring& scoring,
                                  const Shared<P>& s, const Warp& warp, Rows k,
                                  Rows v) {
  constexpr int kParts = P / 8 / kSplit;
  const int offset = warp.row * kHeadStride<P>;
  float dq[kParts][4] = {};
  loadNumbers(a, own.sequence, own.begin, kRows, own.head, s.numbers);
  __syncthreads();
  const int64_t first = firstOf(s.numbers, kRows);
  for (int64_t begin = first / kRows * kRows; begin < own.begin + own.count;
       begin += kRows) {
    __syncthreads();
    loadRows<P>(a, k, begin, s.first);
    loadRows<P>(a, v, begin, s.second);
    __syncthreads();
#pragma unroll 1
    for (int step = 0; step < kRows; step += kStep) {
      const BF16* keys = s.first + step * kHeadStride<P>;
      const BF16* values = s.second + step * kHeadStride<P>;
      Products weights, gradients;
      multiplyKeys<P>(s.ownFirst + offset, keys, warp.lane, weights);
      multiplyKeys<P>(s.ownSecond + offset, values, warp.lane, gradients);
      differentiateStep<false>(
          scoring, s.numbers, warp, static_cast<int>(own.begin),
          static_cast<int>(begin), step, weights, gradients);
      multiplyValues<P>(gradients, keys + warp.element, warp.lane, dq);
    }
  }
  storeRows<P, kParts>(a, own, warp, dq, own.head, a.lddq, a.dq);
}

/// P: elements of a head, with padding; kSplit: warps that share 16 rows.
template <int P, int kSplit>
__device__ inline void attentionGradientBf16(const uint64_t* args, int64_t rows,
                                             int64_t cols, int64_t rowTile,
                                             int64_t colTile) {
  const auto& a = argsOf<AttentionGradientArgs>(args);
  const OwnRows own =
      ownRowsOf(a, blockTile(rows, cols, rowTile, colTile), kRows);
  if (own.count <= 0)
    return;
  const Shared<P> s = Shared<P>::get();
  const int number = threadIdx.x / kWarpLanes;
  const Warp warp = {static_cast<int>(threadIdx.x % kWarpLanes),
                     number / kSplit * 16, number % kSplit * (P / kSplit)};
  const Scoring scoring = {static_cast<float>(a.scale),
                           static_cast<float>(a.softcap)};
  const int64_t row = own.sequence * a.R;
  const Rows k = {a.k + row * a.ldk + own.kvHead * a.D, a.ldk};
  const Rows v = {a.v + row * a.ldv + own.kvHead * a.D, a.ldv};
  if (own.head < 0) {
    loadRows<P>(a, k, own.begin, s.ownFirst);
    loadRows<P>(a, v, own.begin, s.ownSecond);
    addKeys<P, kSplit>(a, own, scoring, s, warp);
    return;
  }
  loadRows<P>(a, {a.q + row * a.ldq + own.head * a.D, a.ldq}, own.begin,
              s.ownFirst);
  loadRows<P>(a, {a.dout + row * a.lddo + own.head * a.D, a.lddo}, own.begin,
              s.ownSecond);
  addQueries<P, kSplit>(a, own, scoring, s, warp, k, v);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_gradient_bf16_64, 128) {
  llmrt::cuda::attentionGradientBf16<64, 1>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_gradient_bf16_128, 128) {
  llmrt::cuda::attentionGradientBf16<128, 1>(args, rows, cols, rowTile,
                                             colTile);
}

LLMRT_CUDA_ENTRY(attention_gradient_bf16_256, 256) {
  llmrt::cuda::attentionGradientBf16<256, 2>(args, rows, cols, rowTile,
                                             colTile);
}
