// SPDX-License-Identifier: Apache-2.0
// cross_entropy_loss on CUDA: a thread for each row, which combines the
// statistics of all ranks in double and in the order of ranks.
//
// Constraints  ranks >= 1.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(cross_entropy_loss, 128) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::CrossEntropyLossArgs>(args);
  const int64_t r =
      blockTile(rows, cols, rowTile, colTile).rowBegin + threadIdx.x;
  if (r >= a.rows)
    return;
  const float* stats = a.stats + r * 3;
  float largest = stats[0];
  for (int64_t t = 1; t < a.ranks; ++t)
    largest = fmaxf(largest, stats[t * a.rankStride]);
  double sum = 0.0, logit = 0.0;
  for (int64_t t = 0; t < a.ranks; ++t) {
    const float* part = stats + t * a.rankStride;
    sum += part[1] * exp(static_cast<double>(part[0]) - largest);
    logit += part[2];
  }
  const double logSum = largest + log(sum);
  a.logSum[r] = static_cast<float>(logSum);
  a.loss[r] = a.labels[r] < 0 ? 0.0f : static_cast<float>(logSum - logit);
}
