// SPDX-License-Identifier: Apache-2.0
// square_sums: the sum of squares of each block, in double: element i of a
// block is added to sum i mod 16, and the 16 sums in a fixed tree. The same
// bits at every level, as the squares are exact.
//
// Constraints  none. Scratch  none.
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr int kSums = 16;

double sumSquares(const float* x, int64_t count) {
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums)
    for (int j = 0; j < kSums; ++j)
      sums[j] += double{x[i + j]} * x[i + j];
  for (int j = 0; i + j < count; ++j)
    sums[j] += double{x[i + j]} * x[i + j];
  for (int half = kSums / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j)
      sums[j] += sums[j + half];
  return sums[0];
}

} // namespace

void square_sums(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<SquareSumsArgs>(words);
  for (int64_t b = tile->rowBegin; b < least(tile->rowEnd, a.blocks); ++b) {
    int64_t begin = least(b * a.blockElements, a.elements);
    int64_t count = least(a.blockElements, a.elements - begin);
    a.out[b] = sumSquares(a.x + begin, count);
  }
}

} // namespace llmrt::LLMRT_LEVEL
