// SPDX-License-Identifier: Apache-2.0
// sum_rows: the gradient of a vector that is added to, or multiplies, each row
// or each group of W columns of it.
//
// Constraints  W divides C; ldx >= C. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void sum_rows(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<SumRowsArgs>(words);
  const int64_t begin = tile->colBegin, end = least(tile->colEnd, a.W);
  if (!a.accumulate)
    for (int64_t w = begin; w < end; ++w)
      a.out[w] = 0.0f;
  for (int64_t r = 0; r < a.rows; ++r)
    for (int64_t g = 0; g < a.C; g += a.W) {
      const float* __restrict x = a.x + r * a.ldx + g;
      float* __restrict out = a.out;
      for (int64_t w = begin; w < end; ++w)
        out[w] += x[w];
    }
}

} // namespace llmrt::LLMRT_LEVEL
