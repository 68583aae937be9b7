// SPDX-License-Identifier: Apache-2.0
// What SentencePiece's tokenizer.model says of its pieces, and those of its
// settings that the way from ids to text depends on: libsentencepiece's
// interface does not tell them all. Strict, as the library sees the file only
// after it. The file is a protobuf message:
// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
#pragma once

#include "runtime/io/tokenizer/SentencePieceParts.h"

#include "absl/status/statusor.h"

#include <string_view>

namespace llmrt {

struct SentencePieceProto {
  SentencePieceSpec spec;
  int64_t bosId = 1; // may be no piece
  int64_t eosId = 2;
};

/// Reads a serialised model. `bytes` must outlive the result.
/// Errors  TokenizerCorrupt; TokenizerUnsupported for models that are not BPE,
///         or that write text in another way than U+2581 before words.
absl::StatusOr<SentencePieceProto>
readSentencePieceProto(std::string_view bytes);

} // namespace llmrt
