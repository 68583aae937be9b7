// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/Utf8.h"

#include <cstring>

namespace llmrt {

Utf8Step readUtf8(std::string_view bytes) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  uint8_t first = at(0);
  if (first < 0x80)
    return {Utf8Step::Character, 1, first};
  if (first < 0xC2 || first > 0xF4)
    return {Utf8Step::Invalid, 1, 0};
  size_t sizeBytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and values
  // above U+10FFFF.
  uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  char32_t codePoint = first & (0x7F >> sizeBytes);
  for (size_t i = 1; i < sizeBytes; ++i) {
    if (i == bytes.size())
      return {Utf8Step::Incomplete, static_cast<uint8_t>(i), 0};
    if (at(i) < low || at(i) > high)
      return {Utf8Step::Invalid, static_cast<uint8_t>(i), 0};
    codePoint = codePoint << 6 | (at(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Step::Character, static_cast<uint8_t>(sizeBytes), codePoint};
}

size_t findInvalidUtf8(std::string_view bytes) {
  size_t offset = 0;
  while (offset < bytes.size()) {
    // Eight ASCII bytes at a time: most text is ASCII.
    uint64_t word;
    if (offset + sizeof(word) <= bytes.size()) {
      std::memcpy(&word, bytes.data() + offset, sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {
        offset += sizeof(word);
        continue;
      }
    }
    Utf8Step step = readUtf8(bytes.substr(offset));
    if (step.kind != Utf8Step::Character)
      return offset;
    offset += step.sizeBytes;
  }
  return std::string_view::npos;
}

bool isWhiteSpace(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

void appendUtf8(char32_t codePoint, std::string& out) {
  auto add = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (codePoint < 0x80) {
    add(codePoint);
  } else if (codePoint < 0x800) {
    add(0xC0 | codePoint >> 6);
    add(0x80 | (codePoint & 0x3F));
  } else if (codePoint < 0x10000) {
    add(0xE0 | codePoint >> 12);
    add(0x80 | (codePoint >> 6 & 0x3F));
    add(0x80 | (codePoint & 0x3F));
  } else {
    add(0xF0 | codePoint >> 18);
    add(0x80 | (codePoint >> 12 & 0x3F));
    add(0x80 | (codePoint >> 6 & 0x3F));
    add(0x80 | (codePoint & 0x3F));
  }
}

} // namespace llmrt
