// SPDX-License-Identifier: Apache-2.0
// SentencePiece's tokenizer.model: libsentencepiece turns text into ids; the
// way back, which must stream, is ours.
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/SentencePieceProto.h"
#include "runtime/io/tokenizer/TokenWriter.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"

namespace llmrt {
namespace {

absl::Status loadEncoder(std::string_view bytes, TokenizerParts& parts) {
  if (!SentencePieceEncoder::isAvailable())
    return makeError(ErrorCode::TokenizerUnsupported,
                     "this build has no libsentencepiece, which "
                     "tokenizer.model needs",
                     "put the model's tokenizer.json beside it");
  std::string why;
  parts.sentencePiece = SentencePieceEncoder::load(bytes, why);
  if (parts.sentencePiece)
    return absl::OkStatus();
  return makeError(
      ErrorCode::TokenizerCorrupt,
      absl::StrCat("libsentencepiece refuses tokenizer.model: ", why),
      "get the tokenizer file again");
}

} // namespace

absl::StatusOr<std::unique_ptr<TokenizerParts>>
readSentencePieceModel(std::string_view bytes, const TokenizerConfig& config) {
  LLMRT_ASSIGN_OR_RETURN(SentencePieceProto proto,
                         readSentencePieceProto(bytes));
  const auto& pieces = proto.spec.pieces;
  auto isControl = [&](int64_t id) {
    return id >= 0 && id < static_cast<int64_t>(pieces.size()) &&
           pieces[id].kind == TokenKind::Control;
  };
  auto parts = std::make_unique<TokenizerParts>();
  LLMRT_RETURN_IF_ERROR(fillSentencePieceVocabulary(proto.spec, *parts));
  LLMRT_RETURN_IF_ERROR(loadEncoder(bytes, *parts));
  if (isControl(proto.bosId)) {
    parts->bosId = static_cast<int32_t>(proto.bosId);
    parts->prefixIds = {*parts->bosId};
  }
  if (isControl(proto.eosId))
    parts->eosIds.push_back(static_cast<int32_t>(proto.eosId));
  TokenWriter writer(*parts, /*isByteLevel=*/false);
  for (AddedToken token : config.addedTokens) {
    if (parts->vocabulary.contains(token.id))
      continue;
    token.isNormalized = false; // the library sees only what is between them
    LLMRT_RETURN_IF_ERROR(writer.addAddedToken(token));
  }
  LLMRT_RETURN_IF_ERROR(applyTokenizerConfig(config, *parts));
  return parts;
}

} // namespace llmrt
