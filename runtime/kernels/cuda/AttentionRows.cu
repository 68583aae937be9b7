// SPDX-License-Identifier: Apache-2.0
// attention_rows on CUDA in plain f32: for f32 keys and values (parity). One
// block works on 16 queries of one head (AttentionPlainTile.cuh), and has the
// bits of `attention` over a cache of the same rows.
//
// Constraints  D at most 256; dtype f32; 0 <= starts[i] <= i (index in the
// sequence).    Shared memory  queries, keys, values and scores of a step.
// Scratch  none.
#include "runtime/kernels/cuda/AttentionPlainTile.cuh"

namespace llmrt::cuda {
namespace {

/// Keys and values as rows of the sequence.
struct RowKeys {
  const AttentionRowsArgs& a;
  QueryTile queries;
  int64_t head;

  __device__ PlainTokens seen(int64_t query) const {
    const int64_t row = queries.row + query;
    const int64_t index = row - queries.sequence * a.R;
    return {firstSeenRow(a, row, index), index + 1};
  }

  __device__ void at(int64_t token, int64_t d, float& key, float& value) const {
    const int64_t row = queries.sequence * a.R + token;
    const int64_t col = kvHeadOf(a, head) * a.D + d;
    key = a.k[row * a.ldk + col];
    value = a.v[row * a.ldv + col];
  }

  __device__ void finish(int64_t query, float largest, float sum) const {
    a.logSum[(queries.row + query) * a.H + head] = largest + logf(sum);
  }
};

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(attention_rows, 256) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::AttentionRowsArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const QueryTile queries = queryTileAt(a, tile.rowBegin, kPlainQueries);
  const int64_t head = tile.colBegin;
  if (queries.count <= 0 || head >= a.H)
    return;
  attendPlainTile(PlainTile{a.q + queries.row * a.ldq + head * a.D, a.ldq,
                            a.out + queries.row * a.ldo + head * a.D, a.ldo,
                            queries.count, a.D, static_cast<float>(a.scale),
                            static_cast<float>(a.softcap)},
                  RowKeys{a, queries, head});
}
