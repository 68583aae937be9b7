// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/TokenWriter.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ByteAlphabet.h"

#include "absl/strings/escaping.h"

namespace llmrt {

absl::Status TokenWriter::addToken(int32_t id, std::string_view written,
                                   TokenKind kind) {
  bool isMerged = kind == TokenKind::Normal;
  if (!isByteLevel_)
    return parts_.vocabulary.set(id, written, kind, isMerged);
  bytes_.clear();
  bool isPlain = kind == TokenKind::Control || kind == TokenKind::UserDefined;
  if (isPlain || !appendBytesOfAlphabet(written, bytes_)) {
    isMerged = false;
    bytes_ = written;
  }
  return parts_.vocabulary.set(id, bytes_, kind, isMerged);
}

absl::Status TokenWriter::addAddedToken(const AddedToken& given) {
  Vocabulary& vocabulary = parts_.vocabulary;
  AddedToken token = given;
  bytes_.clear();
  bool isWritten =
      !isByteLevel_ || appendBytesOfAlphabet(token.content, bytes_);
  if (!isByteLevel_ || !isWritten)
    bytes_ = token.content;
  // A token of the model's own keeps its id, whatever the list says: so does
  // the reference.
  if (int32_t own = isWritten ? vocabulary.find(bytes_) : -1; own >= 0)
    token.id = own;
  bool isOther = vocabulary.contains(token.id) &&
                 vocabulary.text(token.id) != bytes_ &&
                 vocabulary.text(token.id) != token.content;
  if (isOther || token.content.empty())
    return makeError(
        ErrorCode::TokenizerCorrupt,
        absl::StrCat("added token ", token.id,
                     " is another token in the vocabulary: ", token.content),
        "get the tokenizer files again");
  TokenKind kind =
      token.isSpecial ? TokenKind::Control : TokenKind::UserDefined;
  if (vocabulary.contains(token.id))
    vocabulary.setKind(token.id, kind);
  else
    LLMRT_RETURN_IF_ERROR(
        vocabulary.set(token.id, bytes_, kind, /*isFound=*/false));
  if (token.isNormalized) {
    LLMRT_ASSIGN_OR_RETURN(token.content,
                           parts_.normalizer.apply(token.content));
  }
  (token.isNormalized ? parts_.normalizedTokens : parts_.rawTokens)
      .add(std::move(token));
  return absl::OkStatus();
}

absl::Status TokenWriter::addMerge(std::string_view left,
                                   std::string_view right) {
  const Vocabulary& vocabulary = parts_.vocabulary;
  bytes_.clear();
  bool isWritten = true;
  if (isByteLevel_) {
    isWritten = appendBytesOfAlphabet(left, bytes_);
    size_t leftBytes = bytes_.size();
    isWritten = isWritten && appendBytesOfAlphabet(right, bytes_);
    left = std::string_view(bytes_).substr(0, leftBytes);
    right = std::string_view(bytes_).substr(leftBytes);
  } else {
    (bytes_ = left) += right;
  }
  int32_t leftId = isWritten ? vocabulary.find(left) : -1;
  int32_t rightId = isWritten ? vocabulary.find(right) : -1;
  // Vocabularies list merged tokens in the order of the merges: look at the
  // next one before searching.
  int32_t mergedId = lastMerged_ + 1;
  if (!vocabulary.isFound(mergedId) || vocabulary.text(mergedId) != bytes_)
    mergedId = isWritten ? vocabulary.find(bytes_) : -1;
  if (leftId < 0 || rightId < 0 || mergedId < 0)
    return makeError(
        ErrorCode::TokenizerCorrupt,
        absl::StrCat("merge ", parts_.model.numMerges(),
                     " of the tokenizer names a token that is not in its "
                     "vocabulary: ",
                     absl::CHexEscape(absl::string_view(
                         bytes_.data(), std::min<size_t>(bytes_.size(), 80)))),
        "get the tokenizer file again");
  lastMerged_ = mergedId;
  parts_.model.addMerge(leftId, rightId, mergedId);
  return absl::OkStatus();
}

absl::Status TokenWriter::addMerge(std::string_view pair) {
  size_t space = pair.find(' ');
  if (space == std::string_view::npos ||
      pair.find(' ', space + 1) != std::string_view::npos)
    return makeError(ErrorCode::TokenizerCorrupt,
                     absl::StrCat("merge ", parts_.model.numMerges(),
                                  " of the tokenizer is not two tokens with "
                                  "one space between them"),
                     "get the tokenizer file again");
  return addMerge(pair.substr(0, space), pair.substr(space + 1));
}

} // namespace llmrt
