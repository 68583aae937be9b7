// SPDX-License-Identifier: Apache-2.0
// move_rows on CUDA: one block copies or clears one row.
//
// Constraints  both layouts RowMajor; dtype f32 or bf16.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

namespace llmrt::cuda {
namespace {

template <typename Element>
__device__ inline void moveRow(const MoveRowsArgs& a, int64_t row) {
  const int64_t source = a.fromBegin + row - a.toBegin;
  const bool isMoved = row >= a.toBegin && row < a.toBegin + a.count;
  const auto* from = static_cast<const Element*>(a.from) + source * a.K;
  auto* to = static_cast<Element*>(a.to) + row * a.K;
  for (int64_t k = threadIdx.x; k < a.K; k += blockDim.x)
    to[k] = isMoved ? from[k] : Element(0);
}

} // namespace
} // namespace llmrt::cuda

LLMRT_CUDA_ENTRY(move_rows, 128) {
  using namespace llmrt::cuda;
  const auto& a = argsOf<llmrt::MoveRowsArgs>(args);
  const int64_t row = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (row >= a.rows)
    return;
  if (isBf16(a.dtype))
    moveRow<uint16_t>(a, row);
  else
    moveRow<uint32_t>(a, row);
}
