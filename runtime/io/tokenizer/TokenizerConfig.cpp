// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/TokenizerConfig.h"

#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/io/tokenizer/JsonFields.h"
#include "runtime/io/tokenizer/TokenizerParts.h"

#include "absl/strings/numbers.h"

#include <algorithm>
#include <filesystem>

namespace llmrt {
namespace {

using nlohmann::json;

// These files have some kilobytes; one with 256 added tokens has fifty.
constexpr size_t kMaxConfigBytes = 64 << 20;

// Reads a file of `directory`; null if there is none.
absl::StatusOr<std::string> readText(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored))
    return std::string();
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(path.string()));
  if (file.bytes().size() > kMaxConfigBytes)
    return makeError(ErrorCode::TokenizerCorrupt,
                     absl::StrCat("larger than 64 MiB: ", path.string()),
                     "get the file again");
  return std::string(reinterpret_cast<const char*>(file.bytes().data()),
                     file.bytes().size());
}

absl::StatusOr<json> readJson(const std::filesystem::path& path) {
  LLMRT_ASSIGN_OR_RETURN(std::string text, readText(path));
  if (text.empty())
    return json();
  json fields = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!fields.is_object())
    return makeError(ErrorCode::TokenizerCorrupt,
                     absl::StrCat("no valid JSON object: ", path.string()),
                     "get the file again");
  return fields;
}

// A token is written as its text, or as an object with its content.
absl::StatusOr<std::string> readTokenText(const json& fields,
                                          const char* name) {
  const json* token = findField(fields, name);
  if (token && token->is_object())
    return readTextField(*token, "content");
  return readTextField(fields, name);
}

absl::Status readEosIds(const json& fields, std::vector<int32_t>& ids) {
  const json* field = findField(fields, "eos_token_id");
  if (!field)
    return absl::OkStatus();
  for (const json& entry : field->is_array() ? *field : json::array({*field})) {
    if (!entry.is_number_integer())
      return fieldError("eos_token_id", "is not an integer");
    auto id = entry.get<int64_t>();
    if (id >= 0 && id <= INT32_MAX)
      ids.push_back(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

// chat_template is a text, or a list of named ones of which "default" counts.
absl::Status readChatTemplate(const json& fields, std::string& text) {
  const json* field = findField(fields, "chat_template");
  if (!field || !field->is_array()) {
    LLMRT_ASSIGN_OR_RETURN(text, readTextField(fields, "chat_template"));
    return absl::OkStatus();
  }
  for (const json& entry : *field) {
    LLMRT_ASSIGN_OR_RETURN(std::string name, readTextField(entry, "name"));
    if (name != "default")
      continue;
    LLMRT_ASSIGN_OR_RETURN(text, readTextField(entry, "template"));
  }
  return absl::OkStatus();
}

absl::Status readAddedTokens(const json& fields, TokenizerConfig& config) {
  const json* added = findField(fields, "added_tokens_decoder");
  if (!added)
    return absl::OkStatus();
  if (!added->is_object())
    return fieldError("added_tokens_decoder", "is not an object");
  for (const auto& [key, value] : added->items()) {
    LLMRT_ASSIGN_OR_RETURN(AddedToken token, readAddedToken(value));
    if (!absl::SimpleAtoi(key, &token.id) || token.id < 0)
      return fieldError("added_tokens_decoder", "has a key that is no id");
    config.addedTokens.push_back(std::move(token));
  }
  // JSON objects are sorted by text: "10" before "9".
  std::sort(
      config.addedTokens.begin(), config.addedTokens.end(),
      [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<AddedToken> readAddedToken(const json& fields) {
  if (!fields.is_object())
    return fieldError("added_tokens", "has an entry that is no object");
  AddedToken token;
  LLMRT_ASSIGN_OR_RETURN(token.content, readTextField(fields, "content"));
  LLMRT_ASSIGN_OR_RETURN(token.isSpecial,
                         readBoolField(fields, "special", false));
  LLMRT_ASSIGN_OR_RETURN(token.stripsLeft,
                         readBoolField(fields, "lstrip", false));
  LLMRT_ASSIGN_OR_RETURN(token.stripsRight,
                         readBoolField(fields, "rstrip", false));
  LLMRT_ASSIGN_OR_RETURN(token.isSingleWord,
                         readBoolField(fields, "single_word", false));
  LLMRT_ASSIGN_OR_RETURN(token.isNormalized,
                         readBoolField(fields, "normalized", !token.isSpecial));
  return token;
}

absl::Status readTokenizerConfigFields(const json& fields,
                                       TokenizerConfig& config) {
  LLMRT_ASSIGN_OR_RETURN(config.tokenizerClass,
                         readTextField(fields, "tokenizer_class"));
  LLMRT_ASSIGN_OR_RETURN(config.bosText, readTokenText(fields, "bos_token"));
  LLMRT_ASSIGN_OR_RETURN(config.eosText, readTokenText(fields, "eos_token"));
  LLMRT_ASSIGN_OR_RETURN(bool addsBos,
                         readBoolField(fields, "add_bos_token", false));
  LLMRT_ASSIGN_OR_RETURN(bool addsEos,
                         readBoolField(fields, "add_eos_token", false));
  if (findField(fields, "add_bos_token"))
    config.addsBos = addsBos;
  if (findField(fields, "add_eos_token"))
    config.addsEos = addsEos;
  LLMRT_RETURN_IF_ERROR(readAddedTokens(fields, config));
  return readChatTemplate(fields, config.chatTemplate);
}

absl::StatusOr<TokenizerConfig>
readTokenizerConfig(const std::string& directory) {
  TokenizerConfig config;
  std::filesystem::path base(directory);
  LLMRT_ASSIGN_OR_RETURN(json tokenizer,
                         readJson(base / "tokenizer_config.json"));
  LLMRT_RETURN_IF_ERROR(readTokenizerConfigFields(tokenizer, config));
  LLMRT_ASSIGN_OR_RETURN(std::string jinja,
                         readText(base / "chat_template.jinja"));
  if (!jinja.empty())
    config.chatTemplate = std::move(jinja);
  for (const char* name : {"generation_config.json", "config.json"}) {
    LLMRT_ASSIGN_OR_RETURN(json fields, readJson(base / name));
    LLMRT_RETURN_IF_ERROR(readEosIds(fields, config.eosIds));
  }
  return config;
}

absl::Status applyTokenizerConfig(const TokenizerConfig& config,
                                  TokenizerParts& parts) {
  const Vocabulary& vocabulary = parts.vocabulary;
  auto idOf = [&](std::string_view text) -> std::optional<int32_t> {
    if (text.empty())
      return std::nullopt;
    for (int32_t id = vocabulary.sizeTokens() - 1; id >= 0; --id)
      if (vocabulary.contains(id) && vocabulary.text(id) == text)
        return id;
    return std::nullopt;
  };
  if (auto bos = idOf(config.bosText))
    parts.bosId = bos;
  else if (!parts.bosId && !parts.prefixIds.empty())
    parts.bosId = parts.prefixIds.front();
  auto eos = idOf(config.eosText);
  if (eos)
    parts.eosIds.push_back(*eos);
  parts.eosIds.insert(parts.eosIds.end(), config.eosIds.begin(),
                      config.eosIds.end());
  parts.chatTemplate = config.chatTemplate;
  // An explicit setting wins over the tokenizer file.
  auto set = [](std::optional<bool> adds, std::optional<int32_t> id,
                std::vector<int32_t>& ids) {
    if (!adds || !id)
      return;
    std::erase(ids, *id);
    if (*adds)
      ids.insert(ids.begin(), *id);
  };
  set(config.addsBos, parts.bosId, parts.prefixIds);
  set(config.addsEos, eos, parts.suffixIds);
  return absl::OkStatus();
}

} // namespace llmrt
