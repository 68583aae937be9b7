// SPDX-License-Identifier: Apache-2.0
// cross_entropy_loss: the loss of each row from every rank's statistics,
// combined in double in the order of ranks.
//
// Constraints  ranks >= 1. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void cross_entropy_loss(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<CrossEntropyLossArgs>(words);
  for (int64_t r = tile->rowBegin; r < least(tile->rowEnd, a.rows); ++r) {
    const float* stats = a.stats + r * 3;
    float largest = stats[0];
    for (int64_t t = 1; t < a.ranks; ++t)
      if (stats[t * a.rankStride] > largest)
        largest = stats[t * a.rankStride];
    double sum = 0.0, logit = 0.0;
    for (int64_t t = 0; t < a.ranks; ++t) {
      const float* part = stats + t * a.rankStride;
      sum += part[1] * __builtin_exp(double{part[0]} - largest);
      logit += part[2];
    }
    const double logSum = largest + __builtin_log(sum);
    a.logSum[r] = static_cast<float>(logSum);
    a.loss[r] = a.labels[r] < 0 ? 0.0f : static_cast<float>(logSum - logit);
  }
}

} // namespace llmrt::LLMRT_LEVEL
