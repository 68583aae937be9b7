// SPDX-License-Identifier: Apache-2.0
// move_rows: rows of a weight from one place, and layout, to another: what a
// rank takes of a parameter that tensor-split ranks share, and the way back.
//
// Constraints  dtype F32 or BF16. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

/// Index of element [n, k] of a weight with rows of K elements.
int64_t indexOf(int64_t n, int64_t k, int64_t K, int64_t layout,
                int64_t panel) {
  if (layout == static_cast<int64_t>(WeightLayout::RowMajor))
    return n * K + k;
  return n / panel * K * panel + k * panel + n % panel;
}

template <typename Element>
void moveRow(const MoveRowsArgs& a, int64_t row) {
  constexpr int64_t kPanel = kPanelBytes / int64_t{sizeof(Element)};
  const auto* from = static_cast<const Element*>(a.from);
  auto* to = static_cast<Element*>(a.to);
  int64_t source = a.fromBegin + row - a.toBegin;
  bool isMoved = row >= a.toBegin && row < a.toBegin + a.count;
  for (int64_t k = 0; k < a.K; ++k)
    to[indexOf(row, k, a.K, a.toLayout, kPanel)] =
        isMoved ? from[indexOf(source, k, a.K, a.fromLayout, kPanel)]
                : Element(0);
}

} // namespace

void move_rows(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<MoveRowsArgs>(words);
  for (int64_t row = tile->rowBegin; row < least(tile->rowEnd, a.rows); ++row)
    if (a.dtype == static_cast<int64_t>(DType::BF16))
      moveRow<uint16_t>(a, row);
    else
      moveRow<uint32_t>(a, row);
}

} // namespace llmrt::LLMRT_LEVEL
