// SPDX-License-Identifier: Apache-2.0
// attention_rows on CUDA where keys and values are rounded to bf16: tensor
// cores. One block works on 64 queries of one head (AttentionBf16Tile.cuh), and
// has the bits of `attention` over a cache of the same rows.
//
// Constraints  D at most P of attention_rows_bf16_P; dtype bf16; 0 <= starts[i]
// <= i (index in the sequence).    Shared memory  queries, keys and values.
// Scratch  none.
#include "runtime/kernels/cuda/AttentionBf16Tile.cuh"

namespace llmrt::cuda {
namespace {

/// Keys and values as rows of the sequence.
template <int P>
struct RowKeys {
  const AttentionRowsArgs& a;
  QueryTile queries;
  int64_t head;

  __device__ TokenRange seen(int query) const {
    const int64_t row = queries.row + query;
    const int64_t index = row - queries.sequence * a.R;
    return {static_cast<int>(firstSeenRow(a, row, index)),
            static_cast<int>(index) + 1};
  }

  __device__ void load(int block, TokenRange tokens, BF16* keys,
                       BF16* values) const {
    const int64_t row = queries.sequence * a.R + block;
    const int64_t col = kvHeadOf(a, head) * a.D;
    const int64_t first = tokens.begin - block, end = tokens.end - block;
    loadRounded<P>(a.k + row * a.ldk + col, a.ldk, a.D, first, end, keys);
    loadRounded<P>(a.v + row * a.ldv + col, a.ldv, a.D, first, end, values);
  }

  __device__ void finish(int query, float largest, float sum) const {
    a.logSum[(queries.row + query) * a.H + head] = largest + logf(sum);
  }
};

template <int P, int kSplit>
__device__ inline void attentionRowsBf16(const uint64_t* args, int64_t rows,
                                         int64_t cols, int64_t rowTile,
                                         int64_t colTile) {
  const auto& a = argsOf<AttentionRowsArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries = queryTileAt(a, tile.rowBegin, kTileQueries);
  const int64_t head = tile.colBegin;
  if (queries.count <= 0 || head >= a.H)
    return;
  attendTile<P, kSplit>(HeadTile{a.q + queries.row * a.ldq + head * a.D, a.ldq,
                                 a.out + queries.row * a.ldo + head * a.D,
                                 a.ldo, static_cast<int>(queries.count), a.D,
                                 static_cast<float>(a.scale),
                                 static_cast<float>(a.softcap)},
                        RowKeys<P>{a, queries, head});
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_rows_bf16_64, 128) {
  llmrt::cuda::attentionRowsBf16<64, 1>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_rows_bf16_128, 128) {
  llmrt::cuda::attentionRowsBf16<128, 1>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(attention_rows_bf16_256, 256) {
  llmrt::cuda::attentionRowsBf16<256, 2>(args, rows, cols, rowTile, colTile);
}
