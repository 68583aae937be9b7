// SPDX-License-Identifier: Apache-2.0
// VectorMath.h over arrays, compiled once for each CPU level, for
// VectorMathTest.
#include "runtime/kernels/VectorMath.h"

namespace llmrt::LLMRT_LEVEL {

void expFloats(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes)
    store(y + i, expVec(load(x + i)));
}

void tanhFloats(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes)
    store(y + i, tanhVec(load(x + i)));
}

} // namespace llmrt::LLMRT_LEVEL
