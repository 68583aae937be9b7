// SPDX-License-Identifier: Apache-2.0
// What the forms of `attention_gradient` on CUDA share: which block does what,
// the numbers of a query, and the step from scores to their gradients.
//
// Scores are computed again from queries and keys, and weights from logSum:
//   p = exp(score - logSum); delta = sum of dout * out
//   ds = p * (dout . v - delta) * scale, with a soft-cap times 1 -
//   (score/cap)^2 dv += p dout; dk += ds q; dq += ds k
// A block owns rows of a sequence, either of one key/value head (dk and dv: it
// walks the query heads that read it, and their queries) or of one query head
// (dq: it walks the keys). So each gradient is added up by one block in one
// order, without atomics, for the price of computing scores twice.
#pragma once

#include "runtime/kernels/cuda/AttentionTile.cuh"

namespace llmrt::cuda {

/// Rows of a sequence that a block owns, and of which heads.
struct OwnRows {
  int64_t sequence;
  int64_t begin; // in the sequence
  int64_t count; // none: nothing to do
  int64_t kvHead;
  int64_t head; // -1: the rows are keys and values
};

/// Columns of the grid are key/value heads, then query heads.
__device__ inline OwnRows ownRowsOf(const AttentionGradientArgs& a,
                                    const LlmrtTile& tile, int64_t size) {
  const int64_t tiles = (a.R + size - 1) / size;
  const int64_t index = tile.rowBegin / size;
  const int64_t head = tile.colBegin < a.KV ? -1 : tile.colBegin - a.KV;
  OwnRows own;
  own.sequence = index / tiles;
  own.begin = index % tiles * size;
  own.count = own.sequence < a.sequences && head < a.H
                  ? least(size, a.R - own.begin)
                  : 0;
  own.head = head;
  own.kvHead = head < 0 ? tile.colBegin : kvHeadOf(a, head);
  return own;
}

/// Of a query: what its weights follow from, and the first row of its sequence
/// that it sees. In shared memory, [size] each.
struct QueryNumbers {
  float* logSum;
  float* delta;
  int* first;
};

/// Fills the numbers of `count` queries of a head from row `begin` of the
/// sequence; those of rows that there are not see nothing. A warp takes a
/// query.
__device__ inline void loadNumbers(const AttentionGradientArgs& a,
                                   int64_t sequence, int64_t begin, int size,
                                   int64_t head, const QueryNumbers& to) {
  const int lane = threadIdx.x % kWarpLanes;
  const int64_t D = a.D;
  for (int i = threadIdx.x / kWarpLanes; i < size;
       i += blockDim.x / kWarpLanes) {
    const int64_t index = begin + i, row = sequence * a.R + index;
    const bool isQuery = index < a.R;
    const float* out = a.out + row * a.ldo + head * D;
    const float* dout = a.dout + row * a.lddo + head * D;
    float sum = 0.0f;
    for (int64_t d = lane; isQuery && d < D; d += kWarpLanes)
      sum = fmaf(dout[d], out[d], sum);
    sum = sumOfLanes(sum);
    if (lane > 0)
      continue;
    to.delta[i] = sum;
    to.logSum[i] = isQuery ? a.logSum[row * a.H + head] : 0.0f;
    to.first[i] =
        isQuery ? static_cast<int>(firstSeenRow(a, row, index)) : INT32_MAX;
  }
}

/// Returns the first row that any of the queries sees.
__device__ inline int firstOf(const QueryNumbers& numbers, int size) {
  int first = INT32_MAX;
  for (int i = 0; i < size; ++i)
    first = numbers.first[i] < first ? numbers.first[i] : first;
  return first;
}

/// How scores follow from products.
struct Scoring {
  float scale;
  float softcap;
};

/// Turns q . k into the weight p, and dout . v into ds. kIsExact: to the last
/// bits, which takes more registers and code.
template <bool kIsExact>
__device__ inline void differentiate(const Scoring& scoring, bool isSeen,
                                     float logSum, float delta, float& product,
                                     float& gradient) {
  float score = product * scoring.scale, slope = scoring.scale;
  if (scoring.softcap != 0.0f) {
    const float capped = score / scoring.softcap;
    const float turned = kIsExact ? tanhf(capped) : tanhApproximately(capped);
    score = scoring.softcap * turned;
    slope = scoring.scale * (1.0f - turned * turned);
  }
  const float weight = isSeen ? expOf(score - logSum) : 0.0f;
  product = weight;
  gradient = isSeen ? weight * (gradient - delta) * slope : 0.0f;
}

} // namespace llmrt::cuda
