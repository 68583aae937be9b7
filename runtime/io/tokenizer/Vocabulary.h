// SPDX-License-Identifier: Apache-2.0
// The tokens of a vocabulary: id to bytes, and bytes to id for those that the
// merging model may produce. Not the added tokens' matching rules: see
// AddedTokens.h.
#pragma once

#include "absl/status/status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

/// What a token is for. The numbers are those of SentencePiece and GGUF.
enum class TokenKind : uint8_t {
  Absent = 0, // the id is a hole
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6,
};

class Vocabulary {
public:
  /// Puts a token at `id`, replacing what was there. `isFound` says whether
  /// find() may return it. Errors  TokenizerCorrupt if the id is negative or
  /// absurdly large.
  absl::Status set(int32_t id, std::string_view text, TokenKind kind,
                   bool isFound);

  /// Builds the index behind find(). Call once, after the last set().
  void buildIndex();

  /// Returns the id of the token with these bytes, or -1.
  int32_t find(std::string_view text) const;

  /// Returns the largest id plus one.
  int32_t sizeTokens() const { return static_cast<int32_t>(tokens_.size()); }

  bool contains(int32_t id) const {
    return id >= 0 && id < sizeTokens() &&
           tokens_[id].kind != TokenKind::Absent;
  }

  /// Returns the bytes of a token, empty for an id that has none.
  std::string_view text(int32_t id) const {
    if (id < 0 || id >= sizeTokens())
      return {};
    return std::string_view(arena_).substr(tokens_[id].begin,
                                           tokens_[id].sizeBytes);
  }

  TokenKind kind(int32_t id) const {
    return id < 0 || id >= sizeTokens() ? TokenKind::Absent : tokens_[id].kind;
  }

  bool isFound(int32_t id) const {
    return id >= 0 && id < sizeTokens() && tokens_[id].isFound;
  }

  void setKind(int32_t id, TokenKind kind) { tokens_[id].kind = kind; }

private:
  struct Token {
    uint32_t begin = 0;
    uint32_t sizeBytes = 0;
    TokenKind kind = TokenKind::Absent;
    bool isFound = false;
  };

  std::vector<Token> tokens_;
  std::string arena_;
  // Open addressing: ids at hash & (size - 1) and after, -1 where free.
  std::vector<int32_t> slots_;
};

} // namespace llmrt
