// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/AddedTokens.h"

#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>
#include <utf8proc.h>

namespace llmrt {
namespace {

bool isWordCharacter(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LL:
  case UTF8PROC_CATEGORY_LT:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_LO:
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_MC:
  case UTF8PROC_CATEGORY_ME:
  case UTF8PROC_CATEGORY_ND:
  case UTF8PROC_CATEGORY_NL:
  case UTF8PROC_CATEGORY_PC:
    return true;
  default:
    return c == 0x200C || c == 0x200D;
  }
}

// Returns the offset of the character that ends at `end`.
size_t previousCharacter(std::string_view text, size_t end) {
  do
    --end;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80);
  return end;
}

} // namespace

void AddedTokens::buildIndex() {
  std::erase_if(tokens_, [](const AddedToken& t) { return t.content.empty(); });
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) {
                     return a.content < b.content;
                   });
  for (int byte = 0; byte <= 256; ++byte)
    firstOf_[byte] = static_cast<uint32_t>(
        std::partition_point(tokens_.begin(), tokens_.end(),
                             [&](const AddedToken& t) {
                               return static_cast<uint8_t>(t.content[0]) < byte;
                             }) -
        tokens_.begin());
}

int AddedTokens::findLongestPrefix(std::string_view text) const {
  auto first = static_cast<uint8_t>(text[0]);
  auto low = tokens_.begin() + firstOf_[first];
  auto high = tokens_.begin() + firstOf_[first + 1];
  int longest = -1;
  // Narrows the range of tokens that share the first `depth` bytes with the
  // text. A token of exactly that length sorts first in its range.
  for (size_t depth = 1; low != high; ++depth) {
    if (low->content.size() == depth)
      longest = static_cast<int>(low - tokens_.begin());
    while (low != high && low->content.size() == depth)
      ++low;
    if (depth == text.size())
      break;
    auto byte = static_cast<uint8_t>(text[depth]);
    low = std::partition_point(low, high, [&](const AddedToken& t) {
      return static_cast<uint8_t>(t.content[depth]) < byte;
    });
    high = std::partition_point(low, high, [&](const AddedToken& t) {
      return static_cast<uint8_t>(t.content[depth]) <= byte;
    });
  }
  return longest;
}

std::vector<TextPart> AddedTokens::split(std::string_view text,
                                         bool parseSpecial) const {
  std::vector<TextPart> parts;
  size_t done = 0; // bytes that are in parts
  for (size_t at = 0; at < text.size();) {
    auto first = static_cast<uint8_t>(text[at]);
    int index = firstOf_[first] == firstOf_[first + 1]
                    ? -1
                    : findLongestPrefix(text.substr(at));
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = at;
    size_t end = at + token.content.size();
    at = end;
    if (token.isSpecial && !parseSpecial)
      continue;
    if (token.isSingleWord) {
      bool touchesLeft =
          begin > 0 &&
          isWordCharacter(
              readUtf8(text.substr(previousCharacter(text, begin))).codePoint);
      bool touchesRight = end < text.size() &&
                          isWordCharacter(readUtf8(text.substr(end)).codePoint);
      if (touchesLeft || touchesRight)
        continue;
    }
    while (token.stripsLeft && begin > done) {
      size_t before = previousCharacter(text, begin);
      if (before < done ||
          !isWhiteSpace(readUtf8(text.substr(before)).codePoint))
        break;
      begin = before;
    }
    while (token.stripsRight && end < text.size()) {
      Utf8Step step = readUtf8(text.substr(end));
      if (!isWhiteSpace(step.codePoint) || step.kind != Utf8Step::Character)
        break;
      end += step.sizeBytes;
    }
    if (begin > done)
      parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
    at = std::max(at, end);
  }
  if (done < text.size())
    parts.push_back({text.substr(done), -1});
  return parts;
}

} // namespace llmrt
