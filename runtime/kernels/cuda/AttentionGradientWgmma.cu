// SPDX-License-Identifier: Apache-2.0
// attention_gradient on sm_90a where keys and values are rounded to bf16:
// wgmma. A block owns rows, a warpgroup 64 of them, and walks others 64 at a
// time, which bulk copies bring while it works on those before. A launch before
// it (attention_gradient_round) rounds queries, keys, values and dout to bf16
// and finds delta = dout . out. Weights and their gradients stay in registers:
// a product's result has the layout that the next one wants of its first
// factor, and panels serve as rows and as columns. With heads of 256 both
// warpgroups work on the same 64 rows: each finds all scores, and half of the
// gradients.
//
// Constraints  D at most P of attention_gradient_wgmma_P; dtype bf16.
// Shared memory  own rows of two kinds, two blocks of others of two kinds,
// two barriers, numbers of queries.    Scratch  q, dout, k and v as
// AttentionRound.cuh says, delta [rows, H]. Source  Dao 2023
// (FlashAttention-2); PTX ISA, wgmma.
#include "runtime/kernels/cuda/AttentionGradient.cuh"
#include "runtime/kernels/cuda/AttentionRound.cuh"
#include "runtime/kernels/cuda/AttentionWgmmaTile.cuh"

namespace llmrt::cuda {
namespace {

/// What the launch before leaves in the scratch.
struct Rounded {
  RoundedHeads q;
  RoundedHeads dout;
  RoundedHeads k;
  RoundedHeads v;
  float* delta;
};

__device__ inline Rounded roundedOf(const AttentionGradientArgs& a,
                                    uint8_t* scratch) {
  BF16* next = reinterpret_cast<BF16*>(scratch);
  auto take = [&](int64_t heads) {
    const RoundedHeads taken = {next, heads, roundedBlocks(a.R),
                                paddedHead(a.D)};
    next += taken.elements(a.sequences);
    return taken;
  };
  Rounded rounded;
  rounded.q = take(a.H);
  rounded.dout = take(a.H);
  rounded.k = take(a.KV);
  rounded.v = take(a.KV);
  rounded.delta = reinterpret_cast<float*>(next);
  return rounded;
}

/// Rounds the heads of dout of a row, and finds their delta.
__device__ inline void roundGradient(const AttentionGradientArgs& a,
                                     const RoundedRow& row, const Rounded& to) {
  const int lane = threadIdx.x % kWarpLanes;
  for (int64_t head = threadIdx.x / kWarpLanes; head < a.H;
       head += blockDim.x / kWarpLanes) {
    float dout[8] = {}, out[8], sum = 0.0f;
    if (row.row >= 0)
      readEight(a.dout + row.row * a.lddo + head * a.D, a.D, lane, dout);
    writeEight(dout, row, head, lane, to.dout);
    if (row.row < 0)
      continue;
    readEight(a.out + row.row * a.ldo + head * a.D, a.D, lane, out);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      sum = fmaf(dout[i], out[i], sum);
    sum = sumOfLanes(sum);
    if (lane == 0)
      to.delta[row.row * a.H + head] = sum;
  }
}

/// Where things lie in shared memory. `first` of own rows and others is k or q,
/// `second` v or dout.
template <int P>
struct GradientPanels {
  static constexpr int kSplit = P == 256 ? 2 : 1; // warpgroups of the same rows
  static constexpr int kOwnRows = kBlockQueries / kSplit;
  static constexpr int kOwnBytes = kOwnRows * P * 2;
  static constexpr int kBlockBytes = kBlockKeys * P * 2;
  uint8_t* ownFirst;

  __device__ uint8_t* ownSecond() const { return ownFirst + kOwnBytes; }

  __device__ uint8_t* first(int buffer) const {
    return ownFirst + 2 * kOwnBytes + buffer * 2 * kBlockBytes;
  }

  __device__ uint8_t* second(int buffer) const {
    return first(buffer) + kBlockBytes;
  }

  __device__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(first(2));
  }

  /// Of the `size` queries of a buffer.
  __device__ QueryNumbers numbers(int buffer, int size) const {
    auto* logSum =
        reinterpret_cast<float*>(barriers() + 2) + buffer * 3 * kBlockKeys;
    return {logSum, logSum + size, reinterpret_cast<int*>(logSum + 2 * size)};
  }
};

/// The rows of a block.
struct Own {
  int sequence;
  int begin; // in the sequence
  int count;
  int kvHead;
  int head; // -1: the rows are keys and values
};

/// The part of a block that a thread does.
struct Part {
  int row;     // of its warp's 16 own rows: the first of the thread's two
  int group;   // first own row of its warpgroup
  int element; // first element of its gradients
  int lane;

  template <int P>
  __device__ static Part get() {
    const int group = __shfl_sync(0xFFFFFFFFu, threadIdx.x / kWarpgroup, 0);
    const int lane = threadIdx.x % kWarpLanes;
    const bool isSplit = GradientPanels<P>::kSplit == 2;
    const int first = isSplit ? 0 : group * kGroupQueries;
    return {first +
                static_cast<int>(threadIdx.x % kWarpgroup / kWarpLanes) * 16 +
                lane / 4,
            first, isSplit ? group * (P / 2) : 0, lane};
  }
};

/// Begins to copy the block of a head that begins with row `begin`.
template <int P>
__device__ inline void copyBlock(const BulkRounds& rounds,
                                 const RoundedHeads& from, int64_t head,
                                 const Own& own, int begin, uint8_t* to) {
  rounds.copy(to, from.block(own.sequence, head, begin / kBlockKeys),
              GradientPanels<P>::kBlockBytes);
}

/// Begins to copy a block's own rows. Behind the last block of the sequence it
/// comes once more: own rows behind the sequence may be any numbers.
template <int P>
__device__ inline void copyOwn(const BulkRounds& rounds,
                               const RoundedHeads& from, int64_t head,
                               const Own& own, uint8_t* to) {
  constexpr int kRows = GradientPanels<P>::kOwnRows;
#pragma unroll
  for (int row = 0; row < kRows; row += kBlockKeys) {
    const int64_t block = (own.begin + row) / kBlockKeys;
    const BF16* rows =
        from.block(own.sequence, head, least(block, from.numBlocks - 1));
#pragma unroll
    for (int panel = 0; panel < P / kPanelElements; ++panel)
      rounds.copy(to + (panel * kRows + row) * kPanelRowBytes,
                  rows + panel * kBlockKeys * kPanelElements, kBlockPanelBytes);
  }
}

__device__ inline void readNumbers(const AttentionGradientArgs& a,
                                   const float* delta, const Own& own,
                                   int begin, int count, int head,
                                   const QueryNumbers& to) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const int64_t index = begin + i, row = own.sequence * a.R + index;
    const bool isQuery = index < a.R;
    to.delta[i] = isQuery ? delta[row * a.H + head] : 0.0f;
    to.logSum[i] = isQuery ? a.logSum[row * a.H + head] : 0.0f;
    to.first[i] =
        isQuery ? static_cast<int>(firstSeenRow(a, row, index)) : INT32_MAX;
  }
}

/// Returns the first row that any of `count` queries from `begin` on sees.
__device__ inline int firstSeenByAny(const AttentionGradientArgs& a,
                                     const Own& own, int begin, int count) {
  if (!a.starts && a.window <= 0)
    return begin < a.R ? 0 : INT32_MAX;
  int first = INT32_MAX;
  for (int i = threadIdx.x % kWarpLanes; i < count && begin + i < a.R;
       i += kWarpLanes) {
    const int64_t index = begin + i;
    const int mine =
        static_cast<int>(firstSeenRow(a, own.sequence * a.R + index, index));
    first = mine < first ? mine : first;
  }
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2) {
    const int other = __shfl_xor_sync(0xFFFFFFFFu, first, offset);
    first = other < first ? other : first;
  }
  return first;
}

/// Returns the first block from `begin` on with a query that sees own rows.
__device__ inline int nextBlock(const AttentionGradientArgs& a, const Own& own,
                                int begin) {
  while (begin < a.R &&
         firstSeenByAny(a, own, begin, kBlockKeys) >= own.begin + own.count)
    begin += kBlockKeys;
  return begin;
}

/// Turns products of own rows and others into weights and gradients.
template <bool kKeysOwn>
__device__ inline void
differentiateBlock(const Scoring& scoring, const QueryNumbers& numbers,
                   const Part& part, int ownBegin, int begin,
                   BlockScores& products, BlockScores& gradients) {
#pragma unroll
  for (int j = 0; j < kBlockKeys / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int own = part.row + i / 2 * 8;
      const int other = j * 8 + part.lane % 4 * 2 + i % 2;
      const int query = kKeysOwn ? other : own;
      const int key = kKeysOwn ? ownBegin + own : begin + other;
      const int index = kKeysOwn ? begin + other : ownBegin + own;
      const bool isSeen = numbers.first[query] <= key && key <= index;
      differentiate<false>(scoring, isSeen, numbers.logSum[query],
                           numbers.delta[query], products[j][i],
                           gradients[j][i]);
    }
}

/// A thread's gradients of its two own rows.
template <int P>
using Gradients = float[P / GradientPanels<P>::kSplit / 8][4];

template <int P>
__device__ inline void
storeGradients(const AttentionGradientArgs& a, const Own& own, const Part& part,
               const Gradients<P>& sums, int64_t head, int64_t ld, float* to) {
  const int D = static_cast<int>(a.D);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = part.row + half * 8;
    if (row >= own.count)
      continue;
    float* line = to + (own.sequence * a.R + own.begin + row) * ld + head * D;
#pragma unroll
    for (int n = 0; n < P / GradientPanels<P>::kSplit / 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = part.element + n * 8 + part.lane % 4 * 2 + i;
        if (d < D)
          line[d] = sums[n][half * 2 + i];
      }
  }
}

/// Scores of a block and what is behind them, begun and waited for; `meanwhile`
/// runs beside the tensor cores. Leaves bf16 weights and gradients.
template <int P, bool kKeysOwn, typename Meanwhile>
__device__ inline void
weighBlock(const GradientPanels<P>& panels, const Part& part, int buffer,
           const Scoring& scoring, const QueryNumbers& numbers, int ownBegin,
           int begin, BlockWeights& weights, BlockWeights& gradients,
           Meanwhile meanwhile) {
  constexpr int kRows = GradientPanels<P>::kOwnRows;
  BlockScores scores, changes;
  beginProducts();
  beginScores<P>(panels.ownFirst, kRows, part.group, panels.first(buffer),
                 scores);
  beginScores<P>(panels.ownSecond(), kRows, part.group, panels.second(buffer),
                 changes);
  endProducts();
  meanwhile();
  waitProducts<0>();
  settle(scores);
  settle(changes);
  differentiateBlock<kKeysOwn>(scoring, numbers, part, ownBegin, begin, scores,
                               changes);
  if (kKeysOwn)
    roundWeights(scores, weights);
  roundWeights(changes, gradients);
}

__device__ inline Scoring scoringOf(const AttentionGradientArgs& a) {
  return {static_cast<float>(a.scale), static_cast<float>(a.softcap)};
}

/// Waits for the oldest round of copies, and for all threads.
__device__ inline void meetCopies(BulkRounds& rounds) {
  rounds.wait();
  __syncthreads();
}

template <int P>
__device__ inline void addKeys(const AttentionGradientArgs& a, const Own& own,
                               const Rounded& rounded) {
  const GradientPanels<P> panels = {sharedPanels()};
  const Part part = Part::get<P>();
  const Scoring scoring = scoringOf(a);
  const HeadRange heads = headsOf(a, own.kvHead);
  Gradients<P> dk = {}, dv = {};
  BlockWeights weights, gradients;
  BulkRounds rounds(panels.barriers());
  auto fetch = [&](int head, int begin, int buffer) {
    copyBlock<P>(rounds, rounded.q, head, own, begin, panels.first(buffer));
    copyBlock<P>(rounds, rounded.dout, head, own, begin, panels.second(buffer));
    readNumbers(a, rounded.delta, own, begin, kBlockKeys, head,
                panels.numbers(buffer, kBlockKeys));
  };
  copyOwn<P>(rounds, rounded.k, own.kvHead, own, panels.ownFirst);
  copyOwn<P>(rounds, rounded.v, own.kvHead, own, panels.ownSecond());
  const int from = nextBlock(a, own, own.begin);
  int head = static_cast<int>(from < a.R ? heads.begin : heads.end);
  int begin = from, buffer = 0;
  if (head < heads.end)
    fetch(head, begin, buffer);
  rounds.end();
  while (head < heads.end) {
    int nextHead = head, next = nextBlock(a, own, begin + kBlockKeys);
    if (next >= a.R) {
      ++nextHead;
      next = from;
    }
    meetCopies(rounds);
    weighBlock<P, true>(panels, part, buffer, scoring,
                        panels.numbers(buffer, kBlockKeys), own.begin, begin,
                        weights, gradients, [&] {
                          if (nextHead < heads.end)
                            fetch(nextHead, next, buffer ^ 1);
                          rounds.end();
                        });
    settle(dv);
    settle(dk);
    beginProducts();
    beginOutputs(weights, panels.second(buffer), part.element, dv);
    beginOutputs(gradients, panels.first(buffer), part.element, dk);
    endProducts();
    waitProducts<0>();
    settle(dv);
    settle(dk);
    head = nextHead;
    begin = next;
    buffer ^= 1;
  }
  rounds.wait(); // of own rows, where there was nothing to do
  storeGradients<P>(a, own, part, dk, own.kvHead, a.lddk, a.dk);
  storeGradients<P>(a, own, part, dv, own.kvHead, a.lddv, a.dv);
}

template <int P>
__device__ inline void addQueries(const AttentionGradientArgs& a,
                                  const Own& own, const Rounded& rounded) {
  constexpr int kRows = GradientPanels<P>::kOwnRows;
  const GradientPanels<P> panels = {sharedPanels()};
  const Part part = Part::get<P>();
  const Scoring scoring = scoringOf(a);
  const QueryNumbers numbers = panels.numbers(0, kRows);
  Gradients<P> dq = {};
  BlockWeights weights, gradients;
  BulkRounds rounds(panels.barriers());
  auto fetch = [&](int begin, int buffer) {
    copyBlock<P>(rounds, rounded.k, own.kvHead, own, begin,
                 panels.first(buffer));
    copyBlock<P>(rounds, rounded.v, own.kvHead, own, begin,
                 panels.second(buffer));
  };
  copyOwn<P>(rounds, rounded.q, own.head, own, panels.ownFirst);
  copyOwn<P>(rounds, rounded.dout, own.head, own, panels.ownSecond());
  readNumbers(a, rounded.delta, own, own.begin, kRows, own.head, numbers);
  int begin =
      firstSeenByAny(a, own, own.begin, own.count) / kBlockKeys * kBlockKeys;
  int buffer = 0;
  const int end = own.begin + own.count;
  fetch(begin, buffer);
  rounds.end();
  for (; begin < end; begin += kBlockKeys, buffer ^= 1) {
    meetCopies(rounds);
    weighBlock<P, false>(panels, part, buffer, scoring, numbers, own.begin,
                         begin, weights, gradients, [&] {
                           if (begin + kBlockKeys < end)
                             fetch(begin + kBlockKeys, buffer ^ 1);
                           rounds.end();
                         });
    settle(dq);
    beginProducts();
    beginOutputs(gradients, panels.first(buffer), part.element, dq);
    endProducts();
    waitProducts<0>();
    settle(dq);
  }
  storeGradients<P>(a, own, part, dq, own.head, a.lddq, a.dq);
}

template <int P>
__device__ inline void
attentionGradientWgmma(const uint64_t* args, int64_t rows, int64_t cols,
                       int64_t rowTile, int64_t colTile, uint8_t* scratch) {
  const auto& a = argsOf<AttentionGradientArgs>(args);
  const OwnRows of = ownRowsOf(a, blockTile(rows, cols, rowTile, colTile),
                               GradientPanels<P>::kOwnRows);
  const Own own = {static_cast<int>(of.sequence), static_cast<int>(of.begin),
                   static_cast<int>(of.count), static_cast<int>(of.kvHead),
                   static_cast<int>(of.head)};
  if (own.count <= 0)
    return;
  BulkRounds::init(GradientPanels<P>{sharedPanels()}.barriers());
  __syncthreads();
  const Rounded rounded = roundedOf(a, scratch);
  if (own.head < 0)
    addKeys<P>(a, own, rounded);
  else
    addQueries<P>(a, own, rounded);
}

} // namespace
} // namespace llmrt::cuda

// A block rounds a row.
LLMRT_CUDA_ENTRY(attention_gradient_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionGradientArgs>(args);
  const RoundedRow row = roundedRowAt(
      blockTile(rows, cols, rowTile, colTile).rowBegin, a.R, a.sequences * a.R);
  if (row.sequence >= a.sequences)
    return;
  const Rounded to = roundedOf(a, scratch);
  roundHeads(a.q, a.ldq, a.D, row, to.q);
  roundHeads(a.k, a.ldk, a.D, row, to.k);
  roundHeads(a.v, a.ldv, a.D, row, to.v);
  roundGradient(a, row, to);
}

LLMRT_CUDA_ENTRY(attention_gradient_wgmma_64, 256, 1) {
  llmrt::cuda::attentionGradientWgmma<64>(args, rows, cols, rowTile, colTile,
                                          scratch);
}

LLMRT_CUDA_ENTRY(attention_gradient_wgmma_128, 256, 1) {
  llmrt::cuda::attentionGradientWgmma<128>(args, rows, cols, rowTile, colTile,
                                           scratch);
}

LLMRT_CUDA_ENTRY(attention_gradient_wgmma_256, 256, 1) {
  llmrt::cuda::attentionGradientWgmma<256>(args, rows, cols, rowTile, colTile,
                                           scratch);
}
