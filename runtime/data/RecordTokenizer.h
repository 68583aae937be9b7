// SPDX-License-Identifier: Apache-2.0
// A record to token ids, and which of them a model is trained to predict. A
// text is encoded as a whole, as the model meets it everywhere else; where a
// token spans the border of prompt and answer, it belongs to the answer.
#pragma once

#include "runtime/data/DataRecord.h"
#include "runtime/io/tokenizer/ChatTemplate.h"
#include "runtime/io/tokenizer/Tokenizer.h"

#include <optional>
#include <vector>

namespace llmrt {

struct RecordTokenizerOptions {
  Objective objective = Objective::Pretrain;
  /// For conversations; nothing: they are refused.
  std::optional<ChatTemplate> chatTemplate;
  /// Ends a document or an answer that no template ends; nothing: no token
  /// does.
  std::optional<int32_t> endToken;
  /// Reads special tokens where a text spells them, as Hugging Face does.
  bool parsesSpecial = true;
};

/// Returns the id that ends a text: of those that end a generation the one that
/// is known to end texts and not turns, else the first; nothing if there is
/// none.
std::optional<int32_t> findEndToken(const Tokenizer& tokenizer);

struct SampleTokens {
  std::vector<int32_t> ids;
  /// Which ids are predicted, one for each; empty: all (pretrain).
  std::vector<bool> counted;
};

class RecordTokenizer {
public:
  /// `tokenizer` must outlive the object. Errors as Tokenizer::encode().
  static absl::StatusOr<RecordTokenizer> create(const Tokenizer& tokenizer,
                                                RecordTokenizerOptions options);

  /// Sets `samples` to the documents of a record: none if it says nothing to
  /// learn, two (chosen, rejected) for dpo, else one. Returns false with a
  /// fault if the tokenizer or the template refuses it.
  bool tokenize(const DataRecord& record, std::vector<SampleTokens>& samples,
                RecordFault& fault);

  /// Returns how many answers began or ended inside a token.
  int64_t numMergedBorders() const { return numMergedBorders_; }

private:
  RecordTokenizer(const Tokenizer& tokenizer, RecordTokenizerOptions options)
      : tokenizer_(&tokenizer), options_(std::move(options)) {}

  absl::StatusOr<std::vector<int32_t>> encode(std::string_view text,
                                              bool parsesSpecial) const;
  absl::Status tokenizeText(const std::string& text, SampleTokens& sample);
  absl::Status tokenizeAnswer(const std::string& prompt,
                              const std::string& answer, SampleTokens& sample);
  absl::Status tokenizeConversation(const std::vector<ChatMessage>& messages,
                                    size_t firstCounted, SampleTokens& sample);
  absl::Status tokenizePassages(const Passage& prompt, const Passage& answer,
                                SampleTokens& sample);
  absl::StatusOr<size_t> findBorder(std::string_view text,
                                    const std::vector<int32_t>& ids,
                                    size_t offsetBytes, bool parsesSpecial);

  const Tokenizer* tokenizer_;
  RecordTokenizerOptions options_;
  std::vector<int32_t> prefixIds_; // what the tokenizer puts before a text
  int64_t numMergedBorders_ = 0;
};

} // namespace llmrt
