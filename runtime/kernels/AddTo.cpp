// SPDX-License-Identifier: Apache-2.0
// add_to: out += x on flat f32 memory.
//
// Constraints  x and out do not overlap. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void add_to(const uint64_t* words, const LlmrtTile* tile, void*) {
  constexpr int64_t blockElements = 1024;
  const auto a = readArgs<AddToArgs>(words);
  const int64_t end =
      least(least(tile->rowEnd, a.blocks) * blockElements, a.elements);
  const float* __restrict x = a.x;
  float* __restrict out = a.out;
  for (int64_t i = tile->rowBegin * blockElements; i < end; ++i)
    out[i] += x[i];
}

} // namespace llmrt::LLMRT_LEVEL
