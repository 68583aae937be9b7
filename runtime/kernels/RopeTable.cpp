// SPDX-License-Identifier: Apache-2.0
// rope_table: cosines and sines of every position, in double, rounded once.
//
// Constraints  rotary even; kind 0 plain, 1 linear, 2 llama3.    Scratch  none.
// Source  Su et al. 2021 (RoFormer); Llama 3.1's scaling of low frequencies.
#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/Simd.h"

#include <math.h>

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr double kTwoPi = 6.283185307179586476925;

// Returns the angle between two neighbouring positions for pair i.
double frequency(const RopeTableArgs& a, int64_t i) {
  double plain = ::pow(a.theta, -2.0 * static_cast<double>(i) /
                                    static_cast<double>(a.rotary));
  if (a.kind == 0)
    return plain;
  if (a.kind == 1)
    return plain / a.factor;
  double turns = a.originalContext * plain / kTwoPi;
  if (turns < a.lowFreqFactor)
    return plain / a.factor;
  if (turns > a.highFreqFactor)
    return plain;
  double smooth =
      (turns - a.lowFreqFactor) / (a.highFreqFactor - a.lowFreqFactor);
  return (1.0 - smooth) * plain / a.factor + smooth * plain;
}

} // namespace

void rope_table(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<RopeTableArgs>(words);
  const int64_t half = a.rotary / 2;
  int64_t rowEnd = least(tile->rowEnd, a.positions);
  for (int64_t i = 0; i < half; ++i) {
    double step = frequency(a, i);
    for (int64_t p = tile->rowBegin; p < rowEnd; ++p) {
      double angle = static_cast<double>(p) * step;
      a.table[p * 2 * half + i] = static_cast<float>(::cos(angle));
      a.table[p * 2 * half + half + i] = static_cast<float>(::sin(angle));
    }
  }
}

} // namespace llmrt::LLMRT_LEVEL
