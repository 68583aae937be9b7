// SPDX-License-Identifier: Apache-2.0
// Both elements of a Box-Muller pair are computed at once.
#include "runtime/executor/RandomNormal.h"

#include "runtime/base/Philox.h"

namespace llmrt {

void fillNormal(uint64_t seed, uint64_t stream, int64_t begin,
                int64_t numElements, float deviation, float* out) {
  for (int64_t i = 0; i < numElements; ++i)
    out[i] = deviation * normal(seed, stream, begin + i);
}

} // namespace llmrt
