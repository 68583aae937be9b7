// SPDX-License-Identifier: Apache-2.0
// The tokenizer that a GGUF file carries. Its keys:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ByteAlphabet.h"
#include "runtime/io/tokenizer/GgufTokenizerData.h"
#include "runtime/io/tokenizer/PreTokenizerPatterns.h"
#include "runtime/io/tokenizer/SentencePieceParts.h"
#include "runtime/io/tokenizer/TokenWriter.h"
#include "runtime/io/tokenizer/TokenizerParts.h"

#include <limits>

namespace llmrt {
namespace {

absl::Status corrupt(absl::string_view what) {
  return makeError(
      ErrorCode::TokenizerCorrupt,
      absl::StrCat("the tokenizer of the GGUF file is corrupt: ", what),
      "get the file again, or convert the model again");
}

absl::StatusOr<TokenKind> kindOf(const GgufTokenizerData& data, size_t id) {
  if (data.tokenTypes.empty())
    return TokenKind::Normal;
  int32_t type = data.tokenTypes[id];
  if (type < static_cast<int32_t>(TokenKind::Normal) ||
      type > static_cast<int32_t>(TokenKind::Byte))
    return corrupt(absl::StrCat("token ", id, " has type ", type));
  return static_cast<TokenKind>(type);
}

// Checks an id of the metadata against the vocabulary.
absl::Status checkId(const GgufTokenizerData& data, absl::string_view key,
                     std::optional<int64_t> id) {
  if (!id || (*id >= 0 && *id < static_cast<int64_t>(data.tokens.size())))
    return absl::OkStatus();
  return corrupt(absl::StrCat(key, " is outside the vocabulary: ", *id));
}

absl::Status checkData(const GgufTokenizerData& data) {
  if (data.tokens.empty() ||
      data.tokens.size() > std::numeric_limits<int32_t>::max())
    return corrupt("it has no tokens");
  if (!data.tokenTypes.empty() && data.tokenTypes.size() != data.tokens.size())
    return corrupt("tokens and token types differ in number");
  LLMRT_RETURN_IF_ERROR(checkId(data, "bos_token_id", data.bosId));
  LLMRT_RETURN_IF_ERROR(checkId(data, "eos_token_id", data.eosId));
  LLMRT_RETURN_IF_ERROR(checkId(data, "eot_token_id", data.eotId));
  LLMRT_RETURN_IF_ERROR(checkId(data, "eom_token_id", data.eomId));
  LLMRT_RETURN_IF_ERROR(checkId(data, "unknown_token_id", data.unknownId));
  for (int64_t id : data.eosIds)
    LLMRT_RETURN_IF_ERROR(checkId(data, "eos_token_ids", id));
  return absl::OkStatus();
}

// Sets the ids around a text and those that end a generation.
absl::Status setSpecialIds(const GgufTokenizerData& data, bool addsBosByDefault,
                           TokenizerParts& parts) {
  if (data.bosId)
    parts.bosId = static_cast<int32_t>(*data.bosId);
  for (std::optional<int64_t> id : {data.eosId, data.eotId, data.eomId})
    if (id)
      parts.eosIds.push_back(static_cast<int32_t>(*id));
  for (int64_t id : data.eosIds)
    parts.eosIds.push_back(static_cast<int32_t>(id));
  if (data.addBos.value_or(addsBosByDefault)) {
    if (!parts.bosId)
      return corrupt("it adds a beginning-of-sequence token and names none");
    parts.prefixIds.push_back(*parts.bosId);
  }
  if (data.addEos.value_or(false)) {
    if (!data.eosId)
      return corrupt("it adds an end-of-sequence token and names none");
    parts.suffixIds.push_back(static_cast<int32_t>(*data.eosId));
  }
  return absl::OkStatus();
}

// Control tokens are found in the text where special tokens are parsed, user's
// tokens always.
void addSplitToken(int32_t id, std::string_view text, TokenKind kind,
                   TokenizerParts& parts) {
  bool isSplit = kind == TokenKind::Control || kind == TokenKind::UserDefined ||
                 kind == TokenKind::Unknown;
  if (!isSplit || text.empty())
    return;
  AddedToken token;
  token.content = std::string(text);
  token.id = id;
  token.isSpecial = kind != TokenKind::UserDefined;
  parts.rawTokens.add(std::move(token));
}

absl::Status fillByteLevel(const GgufTokenizerData& data,
                           TokenizerParts& parts) {
  const NamedPreTokenizer* named =
      findPreTokenizer(data.pre.empty() ? "default" : data.pre);
  if (!named)
    return makeError(
        ErrorCode::TokenizerUnsupported,
        absl::StrCat("the GGUF file's pre-tokenizer is not known: ", data.pre),
        absl::StrCat("known ones are: ", knownPreTokenizers()));
  LLMRT_RETURN_IF_ERROR(addSplits(*named, parts.preTokenizer));
  if (named->normalizesNfc)
    parts.normalizer.addForm(Normalizer::Form::Nfc);
  BpeModel::Options options;
  options.ignoreMerges = named->ignoreMerges;
  // The unknown token of these vocabularies is the end of a text: putting it
  // where a byte has no token would cut the text in two, so that is refused.
  parts.model.setOptions(options);
  TokenWriter writer(parts, /*isByteLevel=*/true);
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    LLMRT_ASSIGN_OR_RETURN(TokenKind kind, kindOf(data, i));
    auto id = static_cast<int32_t>(i);
    LLMRT_RETURN_IF_ERROR(writer.addToken(id, data.tokens[i], kind));
    addSplitToken(id, data.tokens[i], kind, parts);
  }
  parts.vocabulary.buildIndex();
  parts.model.reserveMerges(data.merges.size());
  for (std::string_view merge : data.merges)
    LLMRT_RETURN_IF_ERROR(writer.addMerge(merge));
  return setSpecialIds(data, named->addsBos, parts);
}

absl::Status fillSentencePiece(const GgufTokenizerData& data,
                               TokenizerParts& parts) {
  if (data.removeExtraWhitespaces.value_or(false))
    return makeError(ErrorCode::TokenizerUnsupported,
                     "the GGUF file's tokenizer removes extra spaces",
                     "use a tokenizer of a supported family");
  if (data.scores.size() != data.tokens.size())
    return corrupt("tokens and scores differ in number");
  SentencePieceSpec spec;
  spec.addsDummyPrefix = data.addSpacePrefix.value_or(true);
  spec.byteFallback = true;
  spec.unknownId = static_cast<int32_t>(data.unknownId.value_or(-1));
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    LLMRT_ASSIGN_OR_RETURN(TokenKind kind, kindOf(data, i));
    spec.pieces.push_back({data.tokens[i], data.scores[i], kind});
  }
  LLMRT_RETURN_IF_ERROR(fillSentencePieceParts(spec, parts));
  return setSpecialIds(data, /*addsBosByDefault=*/true, parts);
}

} // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>>
loadTokenizerFromGguf(const GgufTokenizerData& data) {
  LLMRT_RETURN_IF_ERROR(checkData(data));
  auto parts = std::make_unique<TokenizerParts>();
  parts->chatTemplate = data.chatTemplate;
  if (data.model == "gpt2")
    LLMRT_RETURN_IF_ERROR(fillByteLevel(data, *parts));
  else if (data.model == "llama")
    LLMRT_RETURN_IF_ERROR(fillSentencePiece(data, *parts));
  else
    return makeError(
        ErrorCode::TokenizerUnsupported,
        absl::StrCat("the GGUF file's tokenizer model is not supported: ",
                     data.model),
        "supported ones are gpt2 and llama");
  return Tokenizer::create(std::move(parts));
}

} // namespace llmrt
