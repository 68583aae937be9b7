// SPDX-License-Identifier: Apache-2.0
// How many ranks one sum on the device takes: their addresses are an argument
// of the kernel. For C++ and for nvcc.
#pragma once

namespace llmrt {

inline constexpr int kMaxSummands = 64;

} // namespace llmrt
