// SPDX-License-Identifier: Apache-2.0
// rope: rotary position embedding of the heads of each row.
//
// Constraints  rotary even, at most D. A row at position -1 is copied. out may
// be x. Scratch  none.
#include "runtime/kernels/RotateHead.h"

namespace llmrt::LLMRT_LEVEL {

void rope(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<RopeArgs>(words);
  int64_t rowEnd = least(tile->rowEnd, a.rows);
  int64_t headEnd = least(tile->colEnd, a.heads);
  for (int64_t r = tile->rowBegin; r < rowEnd; ++r)
    for (int64_t h = tile->colBegin; h < headEnd; ++h)
      rotateHead(a.x + r * a.ldx + h * a.D, a.table, a.positions[r], a.D,
                 a.rotary, a.style, a.out + r * a.ldo + h * a.D,
                 a.inverse ? -1.0f : 1.0f);
}

} // namespace llmrt::LLMRT_LEVEL
