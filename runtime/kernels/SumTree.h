// SPDX-License-Identifier: Apache-2.0
// Private to kernels: a sum of doubles whose order depends on their number
// alone.
#pragma once

#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

/// Sum of x[0..count) by a tree that pairs neighbours, then pairs of pairs;
/// sums without a partner wait for the end and are added from the last to the
/// first.
inline double sumTree(const double* x, int64_t count) {
  double waiting[64]; // by level: a sum of 2^level blocks
  for (int64_t i = 0; i < count; ++i) {
    double sum = x[i];
    int level = 0;
    for (; i >> level & 1; ++level)
      sum = waiting[level] + sum;
    waiting[level] = sum;
  }
  double sum = 0.0;
  for (int level = 0; count >> level > 0; ++level)
    if (count >> level & 1)
      sum = waiting[level] + sum;
  return sum;
}

} // namespace llmrt::LLMRT_LEVEL
