// SPDX-License-Identifier: Apache-2.0
// The tokenizer keys of a GGUF file, as plain values: what the GGUF reader
// hands to the tokenizer. Views point into the file and are needed while
// loading only.
#pragma once

#include "runtime/io/tokenizer/Tokenizer.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

struct GgufTokenizerData {
  std::string model; // tokenizer.ggml.model: "gpt2" or "llama"
  std::string pre;   // tokenizer.ggml.pre, "" if the file has none
  std::vector<std::string_view> tokens;
  std::vector<float> scores;            // of "llama"
  std::vector<int32_t> tokenTypes;      // empty: all normal
  std::vector<std::string_view> merges; // of "gpt2"
  std::optional<int64_t> bosId, eosId, eotId, eomId, unknownId;
  std::vector<int64_t> eosIds; // of files that name several
  std::optional<bool> addBos, addEos, addSpacePrefix, removeExtraWhitespaces;
  std::string chatTemplate;
};

/// Makes the tokenizer of a GGUF file.
/// Errors  TokenizerCorrupt, TokenizerUnsupported.
absl::StatusOr<std::unique_ptr<Tokenizer>>
loadTokenizerFromGguf(const GgufTokenizerData& data);

} // namespace llmrt
