// SPDX-License-Identifier: Apache-2.0
// What the small files beside a tokenizer say: tokenizer_config.json,
// generation_config.json, config.json and chat_template.jinja. All may be
// absent.
#pragma once

#include "runtime/io/tokenizer/AddedTokens.h"

#include "absl/status/statusor.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace llmrt {

struct TokenizerParts;

struct TokenizerConfig {
  std::string tokenizerClass;
  std::string bosText, eosText; // "" if not said
  std::optional<bool> addsBos, addsEos;
  std::vector<AddedToken> addedTokens; // added_tokens_decoder
  std::vector<int32_t> eosIds;
  std::string chatTemplate;
};

/// Reads the files in `directory`.
/// Errors  TokenizerCorrupt naming the file; FileNotReadable.
absl::StatusOr<TokenizerConfig>
readTokenizerConfig(const std::string& directory);

/// Reads the members of a tokenizer_config.json.
absl::Status readTokenizerConfigFields(const nlohmann::json& fields,
                                       TokenizerConfig& config);

/// Reads one entry of added_tokens, or of added_tokens_decoder.
absl::StatusOr<AddedToken> readAddedToken(const nlohmann::json& fields);

/// Puts what the files say into `parts`, whose vocabulary is complete: ids of
/// bos and eos, whether they are added to a text, the chat template.
absl::Status applyTokenizerConfig(const TokenizerConfig& config,
                                  TokenizerParts& parts);

} // namespace llmrt
