// SPDX-License-Identifier: Apache-2.0
// Tokens that are found in the text before the merging model sees it: special
// tokens such as <|im_end|>, and tokens that a user added. Finds them; does not
// own their ids' meaning.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool isSpecial = false;
  bool stripsLeft = false;   // takes the white space before it
  bool stripsRight = false;  // takes the white space after it
  bool isSingleWord = false; // only where no word character touches it
  bool isNormalized = false; // looked for after normalisation
};

/// A part of a text: an added token, or (id -1) text between added tokens.
struct TextPart {
  std::string_view text;
  int32_t id = -1;
};

class AddedTokens {
public:
  void add(AddedToken token) { tokens_.push_back(std::move(token)); }

  /// Sorts the tokens. Call once, after the last add().
  void buildIndex();

  bool empty() const { return tokens_.empty(); }

  /// Cuts `text` at the added tokens: the leftmost first, of those the longest.
  /// Parts cover the text in order and none is empty, except that white space
  /// taken by a token belongs to its part. Without `parseSpecial`, special
  /// tokens are text.
  std::vector<TextPart> split(std::string_view text, bool parseSpecial) const;

private:
  // Returns the index of the longest token that `text` starts with, or -1.
  int findLongestPrefix(std::string_view text) const;

  std::vector<AddedToken> tokens_;      // sorted by content
  std::array<uint32_t, 257> firstOf_{}; // by first byte: range in tokens_
};

} // namespace llmrt
