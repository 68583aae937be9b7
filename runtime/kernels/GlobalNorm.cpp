// SPDX-License-Identifier: Apache-2.0
// global_norm: the norm of all gradients and the factor that clips them, from
// the sums of blocks.
//
// Constraints  count < 2^62. Scratch  none.
#include "runtime/kernels/SumTree.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
void global_norm(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<GlobalNormArgs>(words);
  if (tile->rowBegin > 0)
    return;
  const float norm =
      static_cast<float>(__builtin_sqrt(sumTree(a.blocks, a.count)));
  const bool isFinite = norm <= __FLT_MAX__; // false for a NaN
  const float clip = a.hyper[7];
  float factor = clip > 0.0f ? clip / (norm + 1e-6f) : 1.0f;
  a.out[0] = norm;
  a.out[1] = !isFinite ? 0.0f : factor < 1.0f ? factor : 1.0f;
  a.out[2] = isFinite ? 1.0f : 0.0f;
  a.out[3] = 0.0f;
}

} // namespace llmrt::LLMRT_LEVEL
