// SPDX-License-Identifier: Apache-2.0
// A random order of 0..n-1 that needs no memory: element i is computed by
// itself, so that every rank finds its part and a resumed run its place.
#pragma once

#include "runtime/base/Philox.h"

#include <bit>
#include <cassert>
#include <cstdint>

namespace llmrt {

/// Returns element `index` of the order that seed and epoch give to
/// 0..count-1; 0 <= index < count. A Feistel network of Philox over the next
/// power of four, walked until it falls inside the count.
/// Source  Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
inline uint64_t permute(uint64_t index, uint64_t count, uint64_t seed,
                        uint64_t epoch) {
  assert(index < count);
  constexpr uint32_t kRounds = 8;
  int halfBits = (std::bit_width(count - 1) + 1) / 2;
  if (halfBits == 0)
    return 0;
  uint64_t mask = (uint64_t{1} << halfBits) - 1;
  do {
    uint64_t left = index >> halfBits, right = index & mask;
    for (uint32_t round = 0; round < kRounds; ++round) {
      PhiloxCounter words = philox4x32({static_cast<uint32_t>(right), round,
                                        static_cast<uint32_t>(epoch),
                                        static_cast<uint32_t>(epoch >> 32)},
                                       philoxKey(seed));
      uint64_t mixed = left ^ (words[0] & mask);
      left = right;
      right = mixed;
    }
    index = left << halfBits | right;
  } while (index >= count);
  return index;
}

} // namespace llmrt
