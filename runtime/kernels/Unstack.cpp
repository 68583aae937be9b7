// SPDX-License-Identifier: Apache-2.0
// unstack: joins the columns that T ranks gathered one after another.  Scratch
// none.
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

void unstack(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<UnstackArgs>(words);
  int64_t colEnd = least(tile->colEnd, least(a.C, a.T * a.Cl));
  for (int64_t r = tile->rowBegin; r < least(tile->rowEnd, a.rows); ++r)
    for (int64_t c = tile->colBegin; c < colEnd;) {
      int64_t part = c / a.Cl;
      int64_t partEnd = least((part + 1) * a.Cl, colEnd);
      const float* in = a.in + (part * a.rowStride + r) * a.Cl - part * a.Cl;
      for (; c < partEnd; ++c)
        a.out[r * a.C + c] = in[c];
    }
}

} // namespace llmrt::LLMRT_LEVEL
