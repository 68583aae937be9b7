// SPDX-License-Identifier: Apache-2.0
// attention_rows on sm_90a where keys and values are rounded to bf16: wgmma.
// One block works on 128 queries of one head (AttentionWgmmaTile.cuh), and has
// the bits of `attention` over a cache of the same rows. A launch before it
// (attention_rows_round) rounds keys and values to bf16.
//
// Constraints  D at most P of attention_rows_wgmma_P; dtype bf16; 0 <=
// starts[i]
// <= i (index in the sequence).    Shared memory  queries, two blocks of keys
// and of values.    Scratch  keys, then values, [rows, KV, D rounded up to 8].
#include "runtime/kernels/cuda/AttentionRound.cuh"
#include "runtime/kernels/cuda/AttentionWgmmaTile.cuh"

namespace llmrt::cuda {
namespace {

__device__ inline BF16* roundedKeys(const AttentionRowsArgs&,
                                    uint8_t* scratch) {
  return reinterpret_cast<BF16*>(scratch);
}

__device__ inline BF16* roundedValues(const AttentionRowsArgs& a,
                                      uint8_t* scratch) {
  return roundedKeys(a, scratch) + a.rows * a.KV * roundedHead(a.D);
}

/// Keys and values as rows of the sequence.
template <int P>
struct RowKeys {
  const AttentionRowsArgs& a;
  const HeadQueries& queries;
  uint8_t* scratch;

  __device__ SeenTokens seen(int query) const {
    const int64_t row = queries.row + query;
    const int64_t index = row - queries.sequence * a.R;
    return {static_cast<int>(firstSeenRow(a, row, index)),
            static_cast<int>(index) + 1};
  }

  __device__ void loadKeys(int block, SeenTokens tokens, uint8_t* to) const {
    load(roundedKeys(a, scratch), block, tokens, to);
  }

  __device__ void loadValues(int block, SeenTokens tokens, uint8_t* to) const {
    load(roundedValues(a, scratch), block, tokens, to);
  }

  __device__ void finish(int query, float largest, float sum) const {
    a.logSum[(queries.row + query) * a.H + queries.head] = largest + logf(sum);
  }

private:
  __device__ void load(const BF16* all, int block, SeenTokens tokens,
                       uint8_t* to) const {
    const int64_t row = queries.sequence * a.R + block;
    const int D = static_cast<int>(roundedHead(a.D));
    copyToPanels<P>(all + (row * a.KV + queries.kvHead) * D,
                    static_cast<int>(a.KV) * D, D, kBlockKeys,
                    tokens.begin - block, tokens.end - block, to);
  }
};

template <int P>
__device__ inline void attentionRowsWgmma(const uint64_t* args, int64_t rows,
                                          int64_t cols, int64_t rowTile,
                                          int64_t colTile, uint8_t* scratch) {
  const auto& a = argsOf<AttentionRowsArgs>(args);
  const HeadQueries queries = queriesOfBlock(a, rows, cols, rowTile, colTile);
  if (queries.count > 0)
    attendQueries<P>(RowKeys<P>{a, keepQueries<P>(queries), scratch});
}

} // namespace
} // namespace llmrt::cuda

// A block rounds the keys and values of a row.
LLMRT_CUDA_ENTRY(attention_rows_round, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionRowsArgs>(args);
  const int64_t row = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (row >= a.rows)
    return;
  roundHeads(a.k + row * a.ldk, a.D, row, a.KV, roundedKeys(a, scratch));
  roundHeads(a.v + row * a.ldv, a.D, row, a.KV, roundedValues(a, scratch));
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
