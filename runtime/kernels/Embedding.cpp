// SPDX-License-Identifier: Apache-2.0
// embedding: rows of a table by token id, as f32. A vocabulary split over ranks
// gives each its part; ids outside it give zeros, so that a sum over ranks is
// the row.
//
// Constraints  dtype f32 or bf16; layout RowMajor, or Panel with the vocabulary
// as outputs (a table tied to the output head).    Scratch  none.
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

template <typename W>
void gather(const EmbeddingArgs& a, int64_t rowBegin, int64_t rowEnd,
            int64_t colBegin, int64_t colEnd) {
  constexpr int64_t panelCols = kPanelBytes / sizeof(W);
  const bool isPanel = a.layout == static_cast<int64_t>(WeightLayout::Panel);
  for (int64_t r = rowBegin; r < rowEnd; ++r) {
    float* out = a.out + r * a.C;
    int64_t id = a.ids[r] - a.vocabBegin;
    if (a.ids[r] < 0 || id < 0 || id >= a.vocabCount) {
      for (int64_t c = colBegin; c < colEnd; ++c)
        out[c] = 0.0f;
      continue;
    }
    const W* table = static_cast<const W*>(a.table);
    const W* row =
        isPanel ? table + id / panelCols * a.C * panelCols + id % panelCols
                : table + id * a.C;
    if (isPanel)
      for (int64_t c = colBegin; c < colEnd; ++c)
        out[c] = widen(row[c * panelCols]);
    else
      for (int64_t c = colBegin; c < colEnd; ++c)
        out[c] = widen(row[c]);
  }
}

} // namespace

void embedding(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<EmbeddingArgs>(words);
  int64_t rowEnd = least(tile->rowEnd, a.rows);
  int64_t colEnd = least(tile->colEnd, a.C);
  if (a.dtype == static_cast<int64_t>(DType::F32))
    return gather<float>(a, tile->rowBegin, rowEnd, tile->colBegin, colEnd);
  gather<BF16>(a, tile->rowBegin, rowEnd, tile->colBegin, colEnd);
}

} // namespace llmrt::LLMRT_LEVEL
