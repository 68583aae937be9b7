// SPDX-License-Identifier: Apache-2.0
// square_sums on CUDA: one block adds the squares of one block of elements, in
// double: threads take groups of 4 elements in ascending order, lanes are added
// in a tree and warps in their order. Squares are exact in double.
//
// Constraints  none.    Scratch  none.
#include "runtime/kernels/cuda/Training.cuh"

LLMRT_CUDA_ENTRY(square_sums, 256) {
  using namespace llmrt::cuda;
  __shared__ double places[8];
  const auto& a = argsOf<llmrt::SquareSumsArgs>(args);
  const int64_t block = blockTile(rows, cols, rowTile, colTile).rowBegin;
  if (block >= a.blocks)
    return;
  const int64_t begin = least(block * a.blockElements, a.elements);
  const int64_t end = least(begin + a.blockElements, a.elements);
  const float* x = a.x;
  double sum = 0.0;
  walkFlat(
      begin, end, isAligned16(x + begin),
      [&](int64_t i) {
        float four[4];
        loadFour(x + i, four);
        for (int j = 0; j < 4; ++j)
          sum += static_cast<double>(four[j]) * four[j];
      },
      [&](int64_t i) { sum += static_cast<double>(x[i]) * x[i]; });
  sum = sumOfBlock(sum, places);
  if (threadIdx.x == 0)
    a.out[block] = sum;
}
