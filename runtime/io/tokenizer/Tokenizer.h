// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, for the tokenizers of the supported model
// families, read from the files in which their checkpoints carry them. Chat
// templates turn messages into text: see ChatTemplate.h.
#pragma once

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

struct TokenizerParts;

struct EncodeOptions {
  /// Adds the ids that the tokenizer's own files put around a text: for most
  /// families the beginning-of-sequence id, for GPT-2 and Qwen nothing. Switch
  /// it off for text made by a chat template, which writes them itself.
  bool addBos = true;
  /// Reads special tokens such as <|im_end|> where the text spells them. Switch
  /// it off for text that is not trusted.
  bool parseSpecial = true;
};

struct DecodeOptions {
  /// Leaves out special tokens.
  bool skipSpecial = false;
  /// The ids go on from text that is there already: their first space is kept,
  /// which SentencePiece vocabularies drop at the beginning of a text.
  bool isContinuation = false;
};

class Tokenizer {
public:
  /// Reads the tokenizer of a model: a Hugging Face directory, or one file
  /// (tokenizer.json, tokenizer.model, encoder.json or vocab.json beside its
  /// merges, a GGUF file), recognised by its content.
  /// Errors  FileNotReadable, TokenizerNotFound, TokenizerFormatUnknown,
  ///         TokenizerCorrupt, TokenizerUnsupported.
  static absl::StatusOr<std::unique_ptr<Tokenizer>>
  load(const std::string& path);

  /// Makes a tokenizer of what a reader filled; see TokenizerParts.h.
  static absl::StatusOr<std::unique_ptr<Tokenizer>>
  create(std::unique_ptr<TokenizerParts> parts);

  ~Tokenizer();

  /// Returns the ids of `text`. May be called by several threads.
  /// Errors  TextNotUtf8, TextNotEncodable, PreTokenizerFailed.
  absl::StatusOr<std::vector<int32_t>>
  encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// Returns the text of `ids`, always valid UTF-8: bytes that are no character
  /// become U+FFFD. An id that has no token adds nothing.
  std::string decode(absl::Span<const int32_t> ids,
                     const DecodeOptions& options = {}) const;

  /// Returns the largest id plus one, added tokens included.
  int32_t vocabSize() const;

  /// Returns the beginning-of-sequence id, if the vocabulary has one.
  std::optional<int32_t> bosId() const;

  /// Returns the ids that end a generation, in ascending order: those that the
  /// model's files name and the well-known end-of-turn tokens of the
  /// vocabulary.
  const std::vector<int32_t>& eosIds() const;
  bool isEos(int32_t id) const;

  /// Returns the bytes of one token (a part of a character in byte-level
  /// vocabularies, with U+2581 for spaces in SentencePiece ones), empty for an
  /// id that has none.
  std::string_view tokenText(int32_t id) const;

  /// Returns the id of a special or added token by its text.
  std::optional<int32_t> findSpecial(std::string_view text) const;

  /// Returns the model's chat template as its files write it (Jinja), or "".
  const std::string& chatTemplateText() const;

  /// Returns a checksum of the files that load() read: another number where the
  /// ids of a text may differ. 0 if it was not made by load().
  uint64_t fingerprint() const;

private:
  friend class StreamingDecoder;
  explicit Tokenizer(std::unique_ptr<TokenizerParts> parts);
  std::unique_ptr<TokenizerParts> parts_;
};

/// Decodes ids as they come and never gives out half a character: bytes that
/// could become one are held back. What push() and finish() return, joined, is
/// what Tokenizer::decode() returns for all ids.
class StreamingDecoder {
public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamingDecoder(const Tokenizer& tokenizer,
                            const DecodeOptions& options = {});

  /// Returns the text that is certain with this id.
  std::string push(int32_t id);

  /// Returns what was held back, as U+FFFD, and is ready for the next text.
  std::string finish();

private:
  void appendBytes(std::string_view bytes, std::string& out);
  void flushByteTokens(bool isRunOver, std::string& out);
  void appendPiece(std::string_view piece, std::string& out);
  void stripLeading(std::string& out);

  const TokenizerParts& parts_;
  DecodeOptions options_;
  std::string pending_;
  uint32_t spacesToStrip_ = 0;
  bool isFirstToken_ = true;
};

} // namespace llmrt
