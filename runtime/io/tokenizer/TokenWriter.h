// SPDX-License-Identifier: Apache-2.0
// Fills the vocabulary and the merges of a tokenizer from the texts in which
// files write them: the part that tokenizer.json, encoder.json and GGUF share.
#pragma once

#include "runtime/io/tokenizer/TokenizerParts.h"

#include "absl/status/status.h"

#include <string>
#include <string_view>

namespace llmrt {

/// Turns written tokens into what the vocabulary holds: bytes where the
/// vocabulary is byte-level, else the text itself.
class TokenWriter {
public:
  TokenWriter(TokenizerParts& parts, bool isByteLevel)
      : parts_(parts), isByteLevel_(isByteLevel) {}

  /// Adds a token of the model's vocabulary. In a byte-level vocabulary a token
  /// that is not written in the byte alphabet is kept as text and never merged
  /// to.
  absl::Status addToken(int32_t id, std::string_view written, TokenKind kind);

  /// Adds a special or user's token, which the vocabulary may hold already.
  /// Call after the vocabulary's index is built. Errors  TokenizerCorrupt if
  /// the id or the text is another token's.
  absl::Status addAddedToken(const AddedToken& token);

  /// Adds the merge of two written tokens. Call after the vocabulary's index is
  /// built.
  /// Errors  TokenizerCorrupt if one of the three is no token.
  absl::Status addMerge(std::string_view left, std::string_view right);

  /// The same, from "left right".
  absl::Status addMerge(std::string_view pair);

private:
  TokenizerParts& parts_;
  bool isByteLevel_;
  int32_t lastMerged_ = -1;
  std::string bytes_;
};

} // namespace llmrt
