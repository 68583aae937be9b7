// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/ByteAlphabet.h"

#include "runtime/io/tokenizer/Utf8.h"

#include <array>
#include <cstdint>

namespace llmrt {
namespace {

// The largest character of the alphabet: the bytes that are not printable in
// Latin-1 are U+0100 and up, in order.
constexpr char32_t kAlphabetEnd = 0x144;

constexpr bool isPrintableByte(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

constexpr std::array<int16_t, kAlphabetEnd> makeByteOfCharacter() {
  std::array<int16_t, kAlphabetEnd> table{};
  for (auto& entry : table)
    entry = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte)
    table[isPrintableByte(byte) ? byte : next++] = static_cast<int16_t>(byte);
  return table;
}

constexpr auto kByteOfCharacter = makeByteOfCharacter();

} // namespace

bool appendBytesOfAlphabet(std::string_view written, std::string& out) {
  size_t start = out.size();
  while (!written.empty()) {
    Utf8Step step = readUtf8(written);
    if (step.kind != Utf8Step::Character || step.codePoint >= kAlphabetEnd ||
        kByteOfCharacter[step.codePoint] < 0) {
      out.resize(start);
      return false;
    }
    out += static_cast<char>(kByteOfCharacter[step.codePoint]);
    written.remove_prefix(step.sizeBytes);
  }
  return true;
}

int byteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>')
    return -1;
  auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  int high = digit(token[3]);
  int low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

} // namespace llmrt
