// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/GgufTokenizer.h"

#include <algorithm>
#include <limits>

namespace llmrt {
namespace {

absl::StatusOr<std::optional<int64_t>> readId(const GgufFile& file,
                                              absl::string_view key) {
  if (!file.contains(key))
    return std::optional<int64_t>();
  LLMRT_ASSIGN_OR_RETURN(int64_t id, file.readInteger(key));
  return std::optional<int64_t>(id);
}

absl::StatusOr<std::optional<bool>> readFlag(const GgufFile& file,
                                             absl::string_view key) {
  if (!file.contains(key))
    return std::optional<bool>();
  LLMRT_ASSIGN_OR_RETURN(bool flag, file.readBool(key));
  return std::optional<bool>(flag);
}

absl::StatusOr<std::vector<std::string_view>> readTexts(const GgufFile& file,
                                                        absl::string_view key) {
  LLMRT_ASSIGN_OR_RETURN(std::vector<absl::string_view> texts,
                         file.readTexts(key));
  std::vector<std::string_view> out;
  out.reserve(texts.size());
  for (absl::string_view text : texts)
    out.emplace_back(text.data(), text.size());
  return out;
}

absl::Status readLists(const GgufFile& file, GgufTokenizerData& data) {
  LLMRT_ASSIGN_OR_RETURN(data.tokens, readTexts(file, "tokenizer.ggml.tokens"));
  if (file.contains("tokenizer.ggml.merges")) {
    LLMRT_ASSIGN_OR_RETURN(data.merges,
                           readTexts(file, "tokenizer.ggml.merges"));
  }
  if (file.contains("tokenizer.ggml.scores")) {
    LLMRT_ASSIGN_OR_RETURN(std::vector<double> scores,
                           file.readNumbers("tokenizer.ggml.scores"));
    data.scores.assign(scores.begin(), scores.end());
  }
  if (file.contains("tokenizer.ggml.token_type")) {
    LLMRT_ASSIGN_OR_RETURN(std::vector<int64_t> types,
                           file.readIntegers("tokenizer.ggml.token_type"));
    for (int64_t type : types)
      data.tokenTypes.push_back(
          static_cast<int32_t>(std::clamp<int64_t>(type, -1, 100)));
  }
  if (file.contains("tokenizer.ggml.eos_token_ids")) {
    LLMRT_ASSIGN_OR_RETURN(data.eosIds,
                           file.readIntegers("tokenizer.ggml.eos_token_ids"));
  }
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<GgufTokenizerData> readGgufTokenizerData(const GgufFile& file) {
  GgufTokenizerData data;
  LLMRT_ASSIGN_OR_RETURN(absl::string_view model,
                         file.readText("tokenizer.ggml.model"));
  LLMRT_ASSIGN_OR_RETURN(absl::string_view pre,
                         file.readTextOr("tokenizer.ggml.pre", ""));
  LLMRT_ASSIGN_OR_RETURN(absl::string_view chatTemplate,
                         file.readTextOr("tokenizer.chat_template", ""));
  data.model = std::string(model);
  data.pre = std::string(pre);
  data.chatTemplate = std::string(chatTemplate);
  LLMRT_RETURN_IF_ERROR(readLists(file, data));
  LLMRT_ASSIGN_OR_RETURN(data.bosId,
                         readId(file, "tokenizer.ggml.bos_token_id"));
  LLMRT_ASSIGN_OR_RETURN(data.eosId,
                         readId(file, "tokenizer.ggml.eos_token_id"));
  LLMRT_ASSIGN_OR_RETURN(data.eotId,
                         readId(file, "tokenizer.ggml.eot_token_id"));
  LLMRT_ASSIGN_OR_RETURN(data.eomId,
                         readId(file, "tokenizer.ggml.eom_token_id"));
  LLMRT_ASSIGN_OR_RETURN(data.unknownId,
                         readId(file, "tokenizer.ggml.unknown_token_id"));
  LLMRT_ASSIGN_OR_RETURN(data.addBos,
                         readFlag(file, "tokenizer.ggml.add_bos_token"));
  LLMRT_ASSIGN_OR_RETURN(data.addEos,
                         readFlag(file, "tokenizer.ggml.add_eos_token"));
  LLMRT_ASSIGN_OR_RETURN(data.addSpacePrefix,
                         readFlag(file, "tokenizer.ggml.add_space_prefix"));
  LLMRT_ASSIGN_OR_RETURN(
      data.removeExtraWhitespaces,
      readFlag(file, "tokenizer.ggml.remove_extra_whitespaces"));
  return data;
}

absl::StatusOr<std::unique_ptr<Tokenizer>>
loadTokenizerFromGguf(const GgufFile& file) {
  LLMRT_ASSIGN_OR_RETURN(GgufTokenizerData data, readGgufTokenizerData(file));
  return loadTokenizerFromGguf(data);
}

} // namespace llmrt
