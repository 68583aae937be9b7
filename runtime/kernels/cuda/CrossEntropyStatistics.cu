// SPDX-License-Identifier: Apache-2.0
// cross_entropy_statistics on CUDA: one block reads the logits of one row once;
// each thread keeps the largest and the sum of exponentials of its columns,
// which are brought to the largest of the row and added in a fixed order.
//
// Constraints  V >= 1.    Scratch  none.    Source  Milakov and Gimelshein
// 2018.
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {
namespace {

constexpr float kNone = -1e30f; // below every logit

struct Sum {
  float largest = kNone;
  float sum = 0.0f;

  __device__ void add(float x) {
    if (x > largest) {
      sum *= expOf(largest - x);
      largest = x;
    }
    sum += expOf(x - largest);
  }
};

__device__ inline float largestOfBlock(float x, float* places) {
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, offset));
  if (threadIdx.x % kWarpLanes == 0)
    places[threadIdx.x / kWarpLanes] = x;
  __syncthreads();
  float largest = places[0];
  for (int warp = 1; warp < static_cast<int>(blockDim.x) / kWarpLanes; ++warp)
    largest = fmaxf(largest, places[warp]);
  return largest;
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(cross_entropy_statistics, 256) {
  using namespace llmrt::cuda;
  __shared__ float places[8];
  const auto& a = argsOf<llmrt::CrossEntropyStatisticsArgs>(args);
  const int64_t row = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (row >= a.rows)
    return;
  const float* x = a.logits + row * a.ldl;
  Sum mine;
  walkFlat(
      0, a.V, isAligned16(x),
      [&](int64_t c) {
        float four[4];
        loadFour(x + c, four);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          mine.add(four[j]);
      },
      [&](int64_t c) { mine.add(x[c]); });
  const float largest = largestOfBlock(mine.largest, places);
  const float sum =
      sumOfBlock(mine.sum * expOf(mine.largest - largest), places);
  if (threadIdx.x > 0)
    return;
  const int64_t label = a.labels[row] - a.vocabBegin;
  const bool isHere = a.labels[row] >= 0 && label >= 0 && label < a.V;
  float* stats = a.stats + row * 3;
  stats[0] = largest;
  stats[1] = sum;
  stats[2] = isHere ? x[label] : 0.0f;
}
