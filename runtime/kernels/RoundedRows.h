// SPDX-License-Identifier: Apache-2.0
// Rounds f32 to the values that bf16 can hold, as a key/value cache in bf16
// does, without leaving f32. For kernel sources only.
#pragma once

#include "runtime/kernels/Simd.h"

namespace llmrt::LLMRT_LEVEL {

/// out[i] = x[i] rounded to nearest, ties to even. out may be x.
inline void roundToBf16(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    BF16 narrow;
    narrowTo(x[i], &narrow);
    out[i] = widen(narrow);
  }
}

} // namespace llmrt::LLMRT_LEVEL
