// SPDX-License-Identifier: Apache-2.0
// weighted_sum: a loss from the losses of rows and their weights. Rows of
// weight 0 add nothing, whatever their loss.
//
// Constraints  none. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void weighted_sum(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<WeightedSumArgs>(words);
  if (tile->rowBegin > 0)
    return;
  double sum = a.accumulate ? a.out[0] : 0.0;
  for (int64_t r = 0; r < a.rows; ++r)
    if (a.weights[r] != 0.0f)
      sum += double{a.x[r]} * a.weights[r];
  a.out[0] = static_cast<float>(sum);
}

} // namespace llmrt::LLMRT_LEVEL
