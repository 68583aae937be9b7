// SPDX-License-Identifier: Apache-2.0
// Fills a tokenizer from SentencePiece pieces with scores, whether they come
// from a tokenizer.model or from a GGUF file. The way from text to ids is for
// BPE only: pieces of a unigram model do not merge.
#pragma once

#include "runtime/io/tokenizer/TokenizerParts.h"

#include "absl/status/status.h"

#include <string_view>
#include <vector>

namespace llmrt {

struct SentencePieceSpec {
  struct Piece {
    std::string_view text;
    float score = 0;
    TokenKind kind = TokenKind::Normal;
  };

  std::vector<Piece> pieces;
  bool addsDummyPrefix = true;
  bool byteFallback = false;
  int32_t unknownId = -1;
};

/// Fills vocabulary, added tokens and decoder of `parts`, the way from ids to
/// text. Errors  TokenizerCorrupt.
absl::Status fillSentencePieceVocabulary(const SentencePieceSpec& spec,
                                         TokenizerParts& parts);

/// Fills model and normalizer as well, the way from text to ids, where there is
/// no tokenizer.model for libsentencepiece. Errors  TokenizerCorrupt.
absl::Status fillSentencePieceParts(const SentencePieceSpec& spec,
                                    TokenizerParts& parts);

} // namespace llmrt
