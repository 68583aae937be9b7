// SPDX-License-Identifier: Apache-2.0
// cross_entropy_statistics: what one rank's columns of the vocabulary add to
// the loss of each row. Sums are lane by lane in ascending columns, then the
// lanes in a fixed tree.
//
// Constraints  V >= 1. Scratch  none.
#include "runtime/kernels/TrainingKernelArgs.h"
#include "runtime/kernels/VectorMath.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

// The last columns, filled up with logits that count nothing.
LLMRT_INLINE Vec loadPart(const float* x, int64_t count) {
  float lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i)
    lanes[i] = i < count ? x[i] : -__builtin_inff();
  return load(lanes);
}

} // namespace

void cross_entropy_statistics(const uint64_t* words, const LlmrtTile* tile,
                              void*) {
  const auto a = readArgs<CrossEntropyStatisticsArgs>(words);
  const int64_t whole = a.V / kLanes * kLanes;
  for (int64_t r = tile->rowBegin; r < least(tile->rowEnd, a.rows); ++r) {
    const float* x = a.logits + r * a.ldl;
    const Vec last = loadPart(x + whole, a.V - whole);
    Vec largest = last;
    for (int64_t c = 0; c < whole; c += kLanes)
      largest = vmax(largest, load(x + c));
    const float m = largestLane(largest);
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    int64_t c = 0;
    for (; c + 4 * kLanes <= whole; c += 4 * kLanes)
      for (int i = 0; i < 4; ++i)
        sums[i] = sums[i] + expVec(load(x + c + i * kLanes) - splat(m));
    for (; c < whole; c += kLanes)
      sums[0] = sums[0] + expVec(load(x + c) - splat(m));
    if (whole < a.V)
      sums[1] = sums[1] + expVec(last - splat(m));
    const int64_t label = a.labels[r] - a.vocabBegin;
    const bool isHere = a.labels[r] >= 0 && label >= 0 && label < a.V;
    float* stats = a.stats + r * 3;
    stats[0] = m;
    stats[1] = sumLanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
    stats[2] = isHere ? x[label] : 0.0f;
  }
}

} // namespace llmrt::LLMRT_LEVEL
