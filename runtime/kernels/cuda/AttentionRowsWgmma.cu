// SPDX-License-Identifier: Apache-2.0
// attention_rows on sm_90a where keys and values are rounded to bf16: wgmma.
// One block works on 128 queries of one head (AttentionWgmmaTile.cuh), and has
// the bits of `attention` over a cache of the same rows. A launch before it
// (attention_rows_round) rounds keys and values to bf16.
//
// Constraints  D at most P of attention_rows_wgmma_P; dtype bf16; 0 <=
// starts[i]
// <= i (index in the sequence).    Shared memory  queries, two blocks of keys
// and of values, two barriers, what the block works on.    Scratch  keys, then
// values, as AttentionRound.cuh says.
#include "runtime/kernels/cuda/AttentionRound.cuh"
#include "runtime/kernels/cuda/AttentionWgmmaTile.cuh"

namespace llmrt::cuda {
namespace {

__device__ inline RoundedHeads roundedKeys(const AttentionRowsArgs& a,
                                           uint8_t* scratch) {
  return {reinterpret_cast<BF16*>(scratch), a.KV, roundedBlocks(a.R),
          paddedHead(a.D)};
}

__device__ inline RoundedHeads roundedValues(const AttentionRowsArgs& a,
                                             uint8_t* scratch) {
  RoundedHeads heads = roundedKeys(a, scratch);
  heads.blocks += heads.elements((a.rows + a.R - 1) / a.R);
  return heads;
}

/// Keys and values as rows of the sequence.
template <int P>
struct RowKeys {
  using Rounds = BulkRounds;
  const AttentionRowsArgs& a;
  const HeadQueries& queries;
  uint8_t* scratch;

  __device__ SeenTokens seen(int query) const {
    const int64_t row = queries.row + query;
    const int64_t index = row - queries.sequence * a.R;
    return {static_cast<int>(firstSeenRow(a, row, index)),
            static_cast<int>(index) + 1};
  }

  __device__ void loadKeys(const Rounds& rounds, int block, SeenTokens,
                           uint8_t* to) const {
    load(rounds, roundedKeys(a, scratch), block, to);
  }

  __device__ void loadValues(const Rounds& rounds, int block, SeenTokens,
                             uint8_t* to) const {
    load(rounds, roundedValues(a, scratch), block, to);
  }

  /// All rows of a block are numbers.
  __device__ void finishValues(int, SeenTokens, uint8_t*) const {}

  __device__ void finish(int query, float largest, float sum) const {
    a.logSum[(queries.row + query) * a.H + queries.head] = largest + logf(sum);
  }

private:
  __device__ void load(const Rounds& rounds, const RoundedHeads& heads,
                       int block, uint8_t* to) const {
    rounds.copy(
        to, heads.block(queries.sequence, queries.kvHead, block / kBlockKeys),
        kBlockKeys * P * 2);
  }
};

template <int P>
__device__ inline void attentionRowsWgmma(const uint64_t* args, int64_t rows,
                                          int64_t cols, int64_t rowTile,
                                          int64_t colTile, uint8_t* scratch) {
  const auto& a = argsOf<AttentionRowsArgs>(args);
  const HeadQueries queries = queriesOfBlock(a, rows, cols, rowTile, colTile);
  if (queries.count > 0)
    attendQueries<P>(
        RowKeys<P>{a, keepQueries<P, BulkRounds>(queries), scratch});
}

} // namespace
} // namespace llmrt::cuda

// A block rounds the keys and values of a row.
LLMRT_CUDA_ENTRY(attention_rows_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionRowsArgs>(args);
  const RoundedRow row = roundedRowAt(
      blockTile(rows, cols, rowTile, colTile).rowBegin, a.R, a.rows);
  if (row.sequence * a.R >= a.rows)
    return;
  roundHeads(a.k, a.ldk, a.D, row, roundedKeys(a, scratch));
  roundHeads(a.v, a.ldv, a.D, row, roundedValues(a, scratch));
}

LLMRT_CUDA_ENTRY(attention_rows_wgmma_64, 256, 2) {
  llmrt::cuda::attentionRowsWgmma<64>(args, rows, cols, rowTile, colTile,
                                      scratch);
}

LLMRT_CUDA_ENTRY(attention_rows_wgmma_128, 256, 1) {
  llmrt::cuda::attentionRowsWgmma<128>(args, rows, cols, rowTile, colTile,
                                       scratch);
}

LLMRT_CUDA_ENTRY(attention_rows_wgmma_256, 256, 1) {
  llmrt::cuda::attentionRowsWgmma<256>(args, rows, cols, rowTile, colTile,
                                       scratch);
}
