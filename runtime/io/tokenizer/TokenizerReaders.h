// SPDX-License-Identifier: Apache-2.0
// The readers of the file formats, each from the bytes of its files, so that
// tests and fuzzers need none. Tokenizer::load() chooses among them.
#pragma once

#include "runtime/io/tokenizer/TokenizerConfig.h"
#include "runtime/io/tokenizer/TokenizerJsonReader.h"
#include "runtime/io/tokenizer/TokenizerParts.h"

#include "absl/status/statusor.h"

#include <memory>
#include <string_view>

namespace llmrt {

/// Reads a Hugging Face tokenizer.json with a BPE model.
/// Errors  TokenizerCorrupt, TokenizerUnsupported naming the component.
absl::StatusOr<std::unique_ptr<TokenizerParts>>
readTokenizerJson(const TokenizerDocument& document,
                  const TokenizerConfig& config);

/// Reads GPT-2's encoder.json (or vocab.json) with its vocab.bpe (or
/// merges.txt).
absl::StatusOr<std::unique_ptr<TokenizerParts>>
readEncoderAndMerges(const TokenizerDocument& encoder, std::string_view merges,
                     const TokenizerConfig& config);

/// Reads a SentencePiece tokenizer.model with a BPE model.
absl::StatusOr<std::unique_ptr<TokenizerParts>>
readSentencePieceModel(std::string_view bytes, const TokenizerConfig& config);

/// Reads Llama 3's tokenizer.model: a base64 token and its rank in each line.
absl::StatusOr<std::unique_ptr<TokenizerParts>>
readTiktokenModel(std::string_view bytes, const TokenizerConfig& config);

} // namespace llmrt
