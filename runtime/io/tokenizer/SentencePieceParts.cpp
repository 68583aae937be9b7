// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/SentencePieceParts.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ByteAlphabet.h"
#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace llmrt {
namespace {

// Turns scores into ranks: the highest score is rank 0, equal scores are equal
// ranks, so that of equal pairs the leftmost merges first.
std::vector<int32_t> ranksOfScores(const SentencePieceSpec& spec) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < spec.pieces.size(); ++i)
    if (spec.pieces[i].kind == TokenKind::Normal)
      ids.push_back(static_cast<int32_t>(i));
  auto score = [&](int32_t id) { return spec.pieces[id].score; };
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return score(a) > score(b); });
  std::vector<int32_t> ranks(spec.pieces.size(), -1);
  int32_t rank = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0 && score(ids[i]) != score(ids[i - 1]))
      ++rank;
    ranks[ids[i]] = rank;
  }
  return ranks;
}

absl::Status addPiece(const SentencePieceSpec& spec, size_t index,
                      TokenizerParts& parts) {
  const SentencePieceSpec::Piece& piece = spec.pieces[index];
  auto id = static_cast<int32_t>(index);
  auto corrupt = [&](absl::string_view what) {
    return makeError(ErrorCode::TokenizerCorrupt,
                     absl::StrCat("piece ", index, " of the tokenizer ", what),
                     "get the tokenizer file again");
  };
  if (std::isnan(piece.score))
    return corrupt("has no number as its score");
  if (piece.kind == TokenKind::Byte && byteOfToken(piece.text) < 0)
    return corrupt("is a byte and not written as one");
  LLMRT_RETURN_IF_ERROR(parts.vocabulary.set(id, piece.text, piece.kind,
                                             piece.kind == TokenKind::Normal));
  AddedToken token;
  token.content = std::string(piece.text);
  token.id = id;
  token.isSpecial = piece.kind != TokenKind::UserDefined;
  if (piece.text.empty())
    return absl::OkStatus();
  // A user's piece is written as it stands in the normalised text.
  if (piece.kind == TokenKind::UserDefined)
    parts.normalizedTokens.add(std::move(token));
  else if (piece.kind == TokenKind::Control || piece.kind == TokenKind::Unknown)
    parts.rawTokens.add(std::move(token));
  return absl::OkStatus();
}

} // namespace

absl::Status fillSentencePieceVocabulary(const SentencePieceSpec& spec,
                                         TokenizerParts& parts) {
  for (size_t i = 0; i < spec.pieces.size(); ++i)
    LLMRT_RETURN_IF_ERROR(addPiece(spec, i, parts));
  parts.vocabulary.buildIndex();
  parts.decoder.isByteLevel = false;
  parts.decoder.hasByteTokens = true;
  parts.decoder.replacements.emplace_back(kSpaceMarker, " ");
  parts.decoder.leadingSpaces = spec.addsDummyPrefix ? 1 : 0;
  return absl::OkStatus();
}

absl::Status fillSentencePieceParts(const SentencePieceSpec& spec,
                                    TokenizerParts& parts) {
  LLMRT_RETURN_IF_ERROR(fillSentencePieceVocabulary(spec, parts));
  BpeModel::Options options;
  options.start = BpeModel::Start::Characters;
  options.merges = BpeModel::Merges::Vocabulary;
  options.byteFallback = spec.byteFallback;
  options.fuseUnknown = true;
  options.unknownId = spec.unknownId;
  parts.model.setOptions(options);
  parts.model.setTokenRanks(ranksOfScores(spec));
  if (spec.addsDummyPrefix)
    parts.normalizer.addPrepend(" ");
  LLMRT_ASSIGN_OR_RETURN(Regex space, Regex::compileLiteral(" "));
  parts.normalizer.addReplace(std::move(space), std::string(kSpaceMarker));
  return absl::OkStatus();
}

} // namespace llmrt
