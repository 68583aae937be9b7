// SPDX-License-Identifier: Apache-2.0
// sum_rows on CUDA: a block adds 32 columns, a warp every 8th item (a group of
// W columns of a row) of the block's part. Parts of the items are blocks of
// their own, whose sums the last one to finish adds in their order: the same
// bits at every run.
//
// Constraints  W divides C.    Scratch  a sum for each part and column.
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kCols = 32;

// The first row of threads gets the sum over the warps.
__device__ inline float sumOfWarps(float x, float* places) {
  places[threadIdx.x] = x;
  __syncthreads();
  float total = 0.0f;
  if (threadIdx.x < kCols)
    for (int warp = 0; warp < kWarps; ++warp)
      total += places[warp * kCols + threadIdx.x];
  return total;
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(sum_rows, 256) {
  using namespace llmrt::cuda;
  __shared__ float places[kWarps * kCols];
  const auto& a = argsOf<llmrt::SumRowsArgs>(args);
  const LlmrtTile tile = blockTile(rows, cols, rowTile, colTile);
  const int64_t w = tile.colBegin + threadIdx.x % kCols, W = a.W;
  const int64_t groups = a.C / W, items = a.rows * groups;
  const int64_t parts = gridDim.y;
  const int64_t perPart = (items + parts - 1) / parts;
  const int64_t begin = blockIdx.y * perPart;
  const int64_t end = least(begin + perPart, items);
  float sum = 0.0f;
  for (int64_t i = begin + threadIdx.x / kCols; i < end && w < W; i += kWarps)
    sum += a.x[i / groups * a.ldx + i % groups * W + w];
  sum = sumOfWarps(sum, places);
  const bool isMine = threadIdx.x < kCols && w < W;
  if (parts > 1) {
    float* sums = reinterpret_cast<float*>(scratch);
    if (isMine)
      sums[blockIdx.y * W + w] = sum;
    if (!isLastBlock(scratch, blockIdx.x, parts))
      return;
    sum = 0.0f;
    for (int64_t part = 0; isMine && part < parts; ++part)
      sum += sums[part * W + w];
  }
  if (isMine)
    a.out[w] = a.accumulate ? a.out[w] + sum : sum;
}
