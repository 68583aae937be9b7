// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10: counter-based random numbers. A value depends on key and
// counter alone, so that no mesh, thread count or order of evaluation changes
// it. Used for weight initialisation and for sampling. Not for cryptography.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace llmrt {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

/// Returns the four words of block `counter` under `key`.
/// Source  Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
inline constexpr PhiloxCounter philox4x32(PhiloxCounter counter,
                                          PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

inline constexpr PhiloxKey philoxKey(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

/// Returns a double in [0, 1) with 53 random bits, from two words.
inline constexpr double uniformFromWords(uint32_t low, uint32_t high) {
  uint64_t bits = (uint64_t{high} << 32 | low) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

/// Returns FNV-1a of a name: the stream of a parameter's random numbers.
inline constexpr uint64_t philoxStream(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325;
  for (char c : name)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

/// Returns element `index` of a standard normal stream, by Box-Muller.
/// Elements 2i and 2i+1 share block i: counter (i, stream), key seed. With u1
/// and u2 the block's two 53-bit uniforms, u1 moved to (0, 1], r = sqrt(-2 log
/// u1), the even element is r cos(2 pi u2), the odd one r sin(2 pi u2), in
/// double, rounded to float.
inline float normal(uint64_t seed, uint64_t stream, uint64_t index) {
  uint64_t block = index / 2;
  PhiloxCounter words = philox4x32(
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
      philoxKey(seed));
  double u1 = uniformFromWords(words[0], words[1]) + 0x1p-53;
  double u2 = uniformFromWords(words[2], words[3]);
  double radius = std::sqrt(-2.0 * std::log(u1));
  double angle = 6.283185307179586476925 * u2;
  return static_cast<float>(index % 2 == 0 ? radius * std::cos(angle)
                                           : radius * std::sin(angle));
}

} // namespace llmrt
