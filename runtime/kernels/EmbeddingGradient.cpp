// SPDX-License-Identifier: Apache-2.0
// embedding_gradient: adds each row's gradient to the row of the table that its
// token read. Columns are split over threads, so that rows are added in order.
//
// Constraints  layout that of an f32 table, the vocabulary as outputs;
// vocabCount <= V. With accumulate 0 the padding of the last panel is cleared
// too. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr int64_t kPanelCols = kPanelBytes / 4;

void clear(const EmbeddingGradientArgs& a, int64_t begin, int64_t end) {
  const bool isPanel = a.layout == static_cast<int64_t>(WeightLayout::Panel);
  const int64_t width = isPanel ? kPanelCols : 1;
  for (int64_t v = 0; v < a.V; v += width)
    __builtin_memset(a.out + v * a.C + begin * width, 0,
                     (end - begin) * width * sizeof(float));
}

} // namespace

void embedding_gradient(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<EmbeddingGradientArgs>(words);
  const int64_t begin = tile->colBegin, end = least(tile->colEnd, a.C);
  const bool isPanel = a.layout == static_cast<int64_t>(WeightLayout::Panel);
  const int64_t width = isPanel ? kPanelCols : 1;
  if (begin >= end)
    return;
  if (!a.accumulate)
    clear(a, begin, end);
  for (int64_t r = 0; r < a.rows; ++r) {
    int64_t id = a.ids[r] - a.vocabBegin;
    if (a.ids[r] < 0 || id < 0 || id >= a.vocabCount)
      continue;
    const float* dy = a.dy + r * a.C;
    float* out = a.out + id / width * width * a.C + id % width;
    for (int64_t c = begin; c < end; ++c)
      out[c * width] += dy[c];
  }
}

} // namespace llmrt::LLMRT_LEVEL
