// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/GuardedMemory.h"

#include <algorithm>
#include <cstring>

namespace llmrt {
namespace {

/// Byte of the pattern at an offset.
uint8_t patternByte(uint32_t pattern, int64_t offset) {
  return pattern >> (8 * (offset & 3));
}

/// Whether all bytes, the first of which lies at `offset`, are the pattern's.
bool holds(const uint8_t* bytes, int64_t sizeBytes, int64_t offset,
           uint32_t pattern) {
  for (int64_t i = 0; i < std::min<int64_t>(sizeBytes, 4); ++i)
    if (bytes[i] != patternByte(pattern, offset + i))
      return false;
  // It repeats itself.
  return sizeBytes <= 4 || std::memcmp(bytes, bytes + 4, sizeBytes - 4) == 0;
}

} // namespace

int64_t GuardedMemory::firstOther(int64_t begin, int64_t end,
                                  uint32_t pattern) {
  while (begin < end) {
    const int64_t sizeBytes = std::min(end - begin, kMostReadBytes);
    const uint8_t* bytes = read(begin, sizeBytes);
    if (!holds(bytes, sizeBytes, begin, pattern)) {
      while (*bytes++ == patternByte(pattern, begin))
        ++begin;
      return begin;
    }
    begin += sizeBytes;
  }
  return end;
}

int64_t GuardedMemory::endOfOther(int64_t begin, int64_t end,
                                  uint32_t pattern) {
  while (begin < end) {
    const int64_t sizeBytes = std::min(end - begin, kMostReadBytes);
    const int64_t first = end - sizeBytes;
    const uint8_t* bytes = read(first, sizeBytes);
    if (!holds(bytes, sizeBytes, first, pattern)) {
      while (bytes[end - 1 - first] == patternByte(pattern, end - 1))
        --end;
      return end;
    }
    end = first;
  }
  return begin;
}

} // namespace llmrt
