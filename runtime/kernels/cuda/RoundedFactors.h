// SPDX-License-Identifier: Apache-2.0
// How factors that a library multiplies lie in a launch's scratch, one behind
// another: as bf16, their rows at multiples of 16 bytes. Kernels that round
// them and the host, which describes them to the library, both read this.
#pragma once

#include <cstdint>

namespace llmrt {

/// Elements from one row of a factor of `cols` columns to the next.
constexpr int64_t factorStride(int64_t cols) { return (cols + 7) / 8 * 8; }

/// Bytes of a factor, a multiple of 256.
constexpr int64_t factorBytes(int64_t rows, int64_t cols) {
  return (rows * factorStride(cols) * 2 + 255) / 256 * 256;
}

} // namespace llmrt
