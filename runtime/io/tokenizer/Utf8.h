// SPDX-License-Identifier: Apache-2.0
// Bytes to code points and back, and the two ways of replacing bytes that are
// no UTF-8. Not Unicode properties or normal forms: those come from utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace llmrt {

/// U+FFFD, which stands for bytes that are no character.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";
/// U+2581, which SentencePiece vocabularies write for a space.
inline constexpr std::string_view kSpaceMarker = "\xE2\x96\x81";

/// One step of a scan over bytes that may be no UTF-8.
struct Utf8Step {
  enum Kind : uint8_t {
    Character,  // a complete, valid character of sizeBytes
    Invalid,    // sizeBytes that can be no part of a character
    Incomplete, // all the bytes that are left; more could complete them
  };

  Kind kind = Invalid;
  uint8_t sizeBytes = 0;
  char32_t codePoint = 0; // of a Character
};

/// Reads the character at the start of `bytes`, which is not empty. An Invalid
/// step is a maximal subpart (Unicode standard, section 3.9): replaced by one
/// U+FFFD.
Utf8Step readUtf8(std::string_view bytes);

/// Returns the offset of the first byte that is no valid UTF-8, or npos.
size_t findInvalidUtf8(std::string_view bytes);

/// Returns the size of the character that starts with `first` in valid UTF-8.
inline size_t utf8SizeBytes(char first) {
  auto byte = static_cast<uint8_t>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// Returns true for the characters of the White_Space property.
bool isWhiteSpace(char32_t codePoint);

/// Appends the UTF-8 of `codePoint` to `out`.
void appendUtf8(char32_t codePoint, std::string& out);

} // namespace llmrt
