// SPDX-License-Identifier: Apache-2.0
// Everything a tokenizer is made of: the readers of the file formats fill it,
// the tokenizer runs it. Only for the files of this folder and their tests.
#pragma once

#include "runtime/io/tokenizer/AddedTokens.h"
#include "runtime/io/tokenizer/BpeModel.h"
#include "runtime/io/tokenizer/Normalizer.h"
#include "runtime/io/tokenizer/PreTokenizer.h"
#include "runtime/io/tokenizer/SentencePieceEncoder.h"
#include "runtime/io/tokenizer/Vocabulary.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llmrt {

/// How the texts of tokens become text.
struct DecoderSpec {
  /// Tokens are bytes: join, then replace each maximal part that is no UTF-8.
  /// Else tokens are characters.
  bool isByteLevel = true;
  /// <0x..> tokens are bytes, not text.
  bool hasByteTokens = false;
  /// Replacements inside each token, in order.
  std::vector<std::pair<std::string, std::string>> replacements;
  /// Spaces removed at the beginning of the text.
  uint32_t leadingSpaces = 0;
  /// Space markers are dropped, not turned into spaces, in the first token.
  bool dropsFirstMarkers = false;
};

struct TokenizerParts {
  Vocabulary vocabulary;
  AddedTokens rawTokens;        // found in the text as given
  AddedTokens normalizedTokens; // found in the normalised text
  Normalizer normalizer;
  PreTokenizer preTokenizer;
  BpeModel model;
  // If it is there: in place of normalizedTokens, normalizer, preTokenizer and
  // model.
  std::unique_ptr<SentencePieceEncoder> sentencePiece;
  std::vector<int32_t> prefixIds; // put before a text
  std::vector<int32_t> suffixIds; // put after a text
  DecoderSpec decoder;
  std::optional<int32_t> bosId;
  std::vector<int32_t> eosIds;
  std::string chatTemplate;
  uint64_t fingerprint = 0; // of the files it was read from
};

/// Adds the well-known end-of-turn tokens among the special ones to
/// parts.eosIds.
void addKnownEosIds(TokenizerParts& parts);

} // namespace llmrt
