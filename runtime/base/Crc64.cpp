// SPDX-License-Identifier: Apache-2.0
// CRC-64/XZ, eight bytes at a time ("slicing by eight"). It finds every changed
// bit of a file; it does not protect against someone who changes the checksum
// too.
#include "runtime/base/Crc64.h"

#include <array>
#include <cstring>

namespace llmrt {
namespace {

constexpr uint64_t kPolynomial = 0xC96C5795D7870F42; // ECMA-182, reflected

using Crc64Tables = std::array<std::array<uint64_t, 256>, 8>;

// tables[j][b]: what byte b contributes with j more bytes behind it.
constexpr Crc64Tables makeTables() {
  Crc64Tables tables{};
  for (uint64_t byte = 0; byte < 256; ++byte) {
    uint64_t crc = byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ (crc & 1 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (int j = 1; j < 8; ++j)
    for (int byte = 0; byte < 256; ++byte) {
      uint64_t before = tables[j - 1][byte];
      tables[j][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  return tables;
}

constexpr Crc64Tables kTables = makeTables();

} // namespace

uint64_t crc64(absl::Span<const uint8_t> bytes, uint64_t seed) {
  uint64_t crc = ~seed;
  const uint8_t* p = bytes.data();
  const uint8_t* end = p + bytes.size();
  for (; end - p >= 8; p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    word ^= crc;
    crc = 0;
    for (int j = 0; j < 8; ++j)
      crc ^= kTables[7 - j][(word >> (8 * j)) & 0xFF];
  }
  for (; p < end; ++p)
    crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 0xFF];
  return ~crc;
}

} // namespace llmrt
