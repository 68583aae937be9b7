// SPDX-License-Identifier: Apache-2.0
// Numbers that CUDA kernels and the host code that launches them agree on.
#pragma once

#include <cstdint>

namespace llmrt {

/// Bytes before the scratch of a launch that are zero when it begins and that a
/// kernel leaves zero: counters (uint32) of blocks that are done.
inline constexpr int64_t kCudaCounterBytes = 16384;

/// The widest head of `attention`.
inline constexpr int64_t kCudaMaxHead = 256;

} // namespace llmrt
