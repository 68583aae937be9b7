// SPDX-License-Identifier: Apache-2.0
// embedding_gradient on CUDA: a block owns some rows of the table and some
// columns. It looks for their tokens among all ids, 256 at a time, and adds
// each found row of dy before the next: in ascending order, without atomics.
//
// Constraints  layout RowMajor; vocabCount <= V.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;

/// What a block adds to.
struct Owned {
  int64_t rowBegin; // of the table
  int64_t rowEnd;
  int64_t colBegin;
  int64_t colEnd;
  bool vectors;
};

__device__ inline void clearOwned(const EmbeddingGradientArgs& a,
                                  const Owned& owned) {
  const float nothing[4] = {};
  for (int64_t row = owned.rowBegin; row < owned.rowEnd; ++row) {
    float* out = a.out + row * a.C;
    walkFlat(
        owned.colBegin, owned.colEnd, owned.vectors,
        [&](int64_t c) { storeFour(nothing, out + c); },
        [&](int64_t c) { out[c] = 0.0f; });
  }
}

__device__ inline void addRow(const float* dy, float* out, const Owned& owned) {
  walkFlat(
      owned.colBegin, owned.colEnd, owned.vectors,
      [&](int64_t c) {
        float sum[4], more[4];
        loadFour(out + c, sum);
        loadFour(dy + c, more);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sum[j] += more[j];
        storeFour(sum, out + c);
      },
      [&](int64_t c) { out[c] += dy[c]; });
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(embedding_gradient, 256) {
  using namespace llmrt::cuda;
  __shared__ int32_t found[kThreads]; // row of the table
  __shared__ uint32_t masks[kWarps];  // which of them are the block's
  const auto& a = argsOf<llmrt::EmbeddingGradientArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const Owned owned = {tile.rowBegin, tile.rowEnd, tile.colBegin,
                       least(tile.colEnd, a.C),
                       a.C % 4 == 0 && isAligned16(a.dy) && isAligned16(a.out)};
  // A thread clears and adds to the same columns at all times.
  if (!a.accumulate)
    clearOwned(a, owned);
  const int64_t end = least(owned.rowEnd, a.vocabCount);
  for (int64_t first = 0; first < a.rows; first += kThreads) {
    const int64_t r = first + threadIdx.x;
    const int32_t id = r < a.rows ? a.ids[r] : -1;
    const int64_t row = id - a.vocabBegin;
    const bool isMine = id >= 0 && row >= owned.rowBegin && row < end;
    found[threadIdx.x] = static_cast<int32_t>(row);
    const uint32_t mask = __ballot_sync(0xFFFFFFFFu, isMine);
    if (threadIdx.x % kWarpLanes == 0)
      masks[threadIdx.x / kWarpLanes] = mask;
    __syncthreads();
    for (int warp = 0; warp < kWarps; ++warp)
      for (uint32_t rest = masks[warp]; rest != 0; rest &= rest - 1) {
        const int i = warp * kWarpLanes + __ffs(static_cast<int>(rest)) - 1;
        addRow(a.dy + (first + i) * a.C, a.out + int64_t{found[i]} * a.C,
               owned);
      }
    __syncthreads();
  }
}
