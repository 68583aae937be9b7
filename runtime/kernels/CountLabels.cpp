// SPDX-License-Identifier: Apache-2.0
// count_labels: how many units of rows count, as f32, so that an all-reduce can
// add it. A unit with one counted row counts.
//
// Constraints  unit divides rows, rows < 2^24 (exact in f32). Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {

void count_labels(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<CountLabelsArgs>(words);
  if (tile->rowBegin > 0)
    return;
  int64_t count = 0;
  for (int64_t r = 0; r < a.rows; r += a.unit) {
    bool isCounted = false;
    for (int64_t i = r; i < r + a.unit; ++i)
      isCounted |= a.labels[i] >= 0;
    count += isCounted;
  }
  a.out[0] = static_cast<float>(count);
}

} // namespace llmrt::LLMRT_LEVEL
