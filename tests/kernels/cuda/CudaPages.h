// SPDX-License-Identifier: Apache-2.0
// Pages of the cache as CUDA has them, out of those of cpu: written down from
// docs/design/cuda.md and the figures of the PTX ISA, not from the kernels.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include <cstdint>
#include <vector>

namespace llmrt::testing {

// PTX ISA, figure "K major 128B swizzling": which of its eight pieces each row
// of eight has at its first, second, ... place. The table is its own inverse.
inline constexpr int kPieces[8][8] = {
    {0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6},
    {2, 3, 0, 1, 6, 7, 4, 5}, {3, 2, 1, 0, 7, 6, 5, 4},
    {4, 5, 6, 7, 0, 1, 2, 3}, {5, 4, 7, 6, 1, 0, 3, 2},
    {6, 7, 4, 5, 2, 3, 0, 1}, {7, 6, 5, 4, 3, 2, 1, 0}};

/// Returns where element d of a token lies in the page of a head of D elements
/// of `elementBytes` each, in elements.
inline int64_t placeInPage(int64_t token, int64_t d, int64_t D,
                           int64_t elementBytes) {
  if (elementBytes != 2 || D % 64 != 0)
    return token * D + d;
  return d / 64 * 64 * kPageTokens + token * 64 +
         kPieces[token % 8][d % 64 / 8] * 8 + d % 8;
}

/// Returns pages of cpu, keys [D, kPageTokens] or values [kPageTokens, D] for
/// each head, in the order of CUDA's.
template <typename T>
std::vector<T> pagesOnCuda(const std::vector<T>& cpu, int64_t D, bool areKeys) {
  std::vector<T> out(cpu.size());
  const int64_t page = D * kPageTokens;
  for (int64_t begin = 0; begin < static_cast<int64_t>(cpu.size());
       begin += page)
    for (int64_t token = 0; token < kPageTokens; ++token)
      for (int64_t d = 0; d < D; ++d)
        out[begin + placeInPage(token, d, D, sizeof(T))] =
            cpu[begin + (areKeys ? d * kPageTokens + token : token * D + d)];
  return out;
}

} // namespace llmrt::testing
