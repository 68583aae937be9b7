// SPDX-License-Identifier: Apache-2.0
// attention_rows on sm_90a where keys and values are rounded to bf16: wgmma.
// One block works on 128 queries of one head (AttentionWgmmaTile.cuh), and has
// the bits of `attention` over a cache of the same rows. Rows are f32 and are
// rounded on their way to shared memory, so they go through registers.
//
// Constraints  D at most P of attention_rows_wgmma_P; dtype bf16; 0 <=
// starts[i]
// <= i (index in the sequence).    Shared memory  queries, two blocks of keys
// and of values.    Scratch  none.
#include "runtime/kernels/cuda/AttentionWgmmaTile.cuh"

namespace llmrt::cuda {
namespace {

/// Keys and values as rows of the sequence.
template <int P>
struct RowKeys {
  const AttentionRowsArgs& a;
  HeadQueries queries;

  __device__ SeenTokens seen(int query) const {
    const int64_t row = queries.row + query;
    const int64_t index = row - queries.sequence * a.R;
    return {static_cast<int>(firstSeenRow(a, row, index)),
            static_cast<int>(index) + 1};
  }

  __device__ void loadKeys(int block, SeenTokens tokens, uint8_t* to) const {
    load(a.k, a.ldk, block, tokens, to);
  }

  __device__ void loadValues(int block, SeenTokens tokens, uint8_t* to) const {
    load(a.v, a.ldv, block, tokens, to);
  }

  __device__ void finish(int query, float largest, float sum) const {
    a.logSum[(queries.row + query) * a.H + queries.head] = largest + logf(sum);
  }

private:
  __device__ void load(const float* all, int64_t ld, int block,
                       SeenTokens tokens, uint8_t* to) const {
    const int64_t row = queries.sequence * a.R + block;
    roundToPanels<P>(all + row * ld + kvHeadOf(a, queries.head) * a.D, ld, a.D,
                     kBlockKeys, tokens.begin - block, tokens.end - block, to);
  }
};

template <int P>
__device__ inline void attentionRowsWgmma(const uint64_t* args, int64_t rows,
                                          int64_t cols, int64_t rowTile,
                                          int64_t colTile) {
  const auto& a = argsOf<AttentionRowsArgs>(args);
  const HeadQueries queries = queriesOfBlock(a, rows, cols, rowTile, colTile);
  if (queries.count > 0)
    attendQueries<P>(RowKeys<P>{a, queries});
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_rows_wgmma_64, 256, 1) {
  llmrt::cuda::attentionRowsWgmma<64>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_rows_wgmma_128, 256, 1) {
  llmrt::cuda::attentionRowsWgmma<128>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_rows_wgmma_256, 256, 1) {
  llmrt::cuda::attentionRowsWgmma<256>(args, rows, cols, rowTile, colTile);
}
