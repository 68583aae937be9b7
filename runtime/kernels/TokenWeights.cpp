// SPDX-License-Identifier: Apache-2.0
// token_weights: what each row's loss counts in the mean over a step.
//
// Constraints  count is not 0 where a label counts. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void token_weights(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<TokenWeightsArgs>(words);
  for (int64_t r = tile->rowBegin; r < least(tile->rowEnd, a.rows); ++r)
    a.weights[r] = a.labels[r] < 0 ? 0.0f : 1.0f / a.count[0];
}

} // namespace llmrt::LLMRT_LEVEL
