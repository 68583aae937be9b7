// SPDX-License-Identifier: Apache-2.0
// select_rows: the last valid row of each sequence.    Scratch  none.
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

void select_rows(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<SelectRowsArgs>(words);
  int64_t colEnd = least(tile->colEnd, a.C);
  for (int64_t s = tile->rowBegin; s < least(tile->rowEnd, a.S); ++s) {
    int64_t row = s * a.R + greatest(a.validRows[s], 1) - 1;
    for (int64_t c = tile->colBegin; c < colEnd; ++c)
      a.out[s * a.C + c] = a.x[row * a.C + c];
  }
}

} // namespace llmrt::LLMRT_LEVEL
