// SPDX-License-Identifier: Apache-2.0
// linear on CUDA for 1 to 16 rows: products that are as fast as the weights are
// read. A warp owns some outputs and walks their K elements, 16 bytes a lane
// and several loads in flight; x comes from the first-level cache. Products and
// sums are f32, x is not rounded. Sums are per lane, then a fixed tree over
// lanes.
//
// Constraints  dtype f32 or bf16; layout RowMajor; no slots. Rows of weights
// that are not multiples of 16 bytes are read one element at a time.    Scratch
// none.
#include "runtime/kernels/cuda/LinearTile.cuh"

namespace llmrt::cuda {

// M rows of x times R outputs of one warp, in sum.
template <typename W, int M, int R>
__device__ inline void streamVectors(const float* const (&x)[M],
                                     const W* const (&w)[R], int64_t K,
                                     int lane, float (&sum)[M][R]) {
  constexpr int V = kVector<W>;
  constexpr int U = R <= 2 ? 4 : 2; // loads in flight for each output
  constexpr int64_t step = kWarpLanes * V;
  for (int64_t begin = lane * V; begin < K; begin += U * step) {
    uint4 raw[U][R];
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int r = 0; r < R; ++r)
        raw[u][r] = begin + u * step < K ? loadOnce(w[r] + begin + u * step)
                                         : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int64_t k = begin + u * step;
      if (k >= K)
        break;
#pragma unroll
      for (int v = 0; v < V; v += 4) {
        float weights[R][4];
#pragma unroll
        for (int r = 0; r < R; ++r)
          widenFour(raw[u][r], w[r], v, weights[r]);
#pragma unroll
        for (int m = 0; m < M; ++m) {
          float part[4];
          widenVector(load16(x[m] + k + v), x[m], part);
#pragma unroll
          for (int r = 0; r < R; ++r)
#pragma unroll
            for (int i = 0; i < 4; ++i)
              sum[m][r] = fmaf(part[i], weights[r][i], sum[m][r]);
        }
      }
    }
  }
}

template <typename W, int M, int R>
__device__ inline void streamElements(const float* const (&x)[M],
                                      const W* const (&w)[R], int64_t K,
                                      int lane, float (&sum)[M][R]) {
  for (int64_t k = lane; k < K; k += kWarpLanes)
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float weight = widen(w[r][k]);
#pragma unroll
      for (int m = 0; m < M; ++m)
        sum[m][r] = fmaf(x[m][k], weight, sum[m][r]);
    }
}

template <typename W, int M, int R>
__device__ inline void multiplyFewRows(const LinearArgs& a,
                                       const WeightTile& tile, int64_t row) {
  const int lane = threadIdx.x % kWarpLanes;
  const int64_t col = tile.col + threadIdx.x / kWarpLanes * R;
  if (col >= tile.N)
    return;
  const int64_t K = a.K;
  // Rows and outputs beyond the last are the last once more, and not stored.
  const float* x[M];
  const W* w[R];
#pragma unroll
  for (int m = 0; m < M; ++m)
    x[m] = a.x + least(row + m, a.rows - 1) * a.ldx;
#pragma unroll
  for (int r = 0; r < R; ++r)
    w[r] = static_cast<const W*>(tile.w) + least(col + r, tile.N - 1) * K;
  float sum[M][R] = {};
  if (readsVectors<W>(a, tile.w))
    streamVectors<W, M, R>(x, w, K, lane, sum);
  else
    streamElements<W, M, R>(x, w, K, lane, sum);
  float mine = 0.0f;
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const float total = sumOfLanes(sum[m][r]);
      mine = lane == m * R + r ? total : mine;
    }
  const int64_t outRow = row + lane / R, outCol = col + lane % R;
  if (lane < M * R && outRow < a.rows && outCol < tile.N)
    tile.y[outRow * tile.ldy + outCol] = mine;
}

template <int M, int R>
__device__ inline void linearFewRows(const uint64_t* args, int64_t rows,
                                     int64_t cols, int64_t rowTile,
                                     int64_t colTile) {
  const auto& a = argsOf<LinearArgs>(args);
  const LlmrtTile grid = blockTile(rows, cols, rowTile, colTile);
  if (grid.rowBegin >= a.rows)
    return;
  const WeightTile tile = weightTileAt(a, grid.colBegin, colTile);
  if (isBf16(a.dtype))
    multiplyFewRows<BF16, M, R>(a, tile, grid.rowBegin);
  else
    multiplyFewRows<float, M, R>(a, tile, grid.rowBegin);
}

} // namespace llmrt::cuda

// linear_rows_M: M rows and 8 R outputs (R of each of 8 warps) a block.
LLMRT_CUDA_ENTRY(linear_rows_1, 256, 2) {
  llmrt::cuda::linearFewRows<1, 2>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(linear_rows_2, 256, 2) {
  llmrt::cuda::linearFewRows<2, 2>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(linear_rows_4, 256, 2) {
  llmrt::cuda::linearFewRows<4, 4>(args, rows, cols, rowTile, colTile);
}

LLMRT_CUDA_ENTRY(linear_rows_8, 256, 1) {
  llmrt::cuda::linearFewRows<8, 4>(args, rows, cols, rowTile, colTile);
}
