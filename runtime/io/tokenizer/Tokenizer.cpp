// SPDX-License-Identifier: Apache-2.0
// Encoding: added tokens are cut out of the text, the rest is normalised, cut
// into words and merged. The readers of the formats are files of their own.
#include "runtime/io/tokenizer/Tokenizer.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>
#include <deque>

namespace llmrt {
namespace {

// Tokens by which models of the supported families end a turn or a text.
constexpr std::string_view kEndTokens[] = {
    "<|im_end|>",      "<|endoftext|>", "<|eot_id|>", "<|eom_id|>",
    "<|end_of_text|>", "<end_of_turn>", "<eos>",      "</s>",
};

// The texts that views point into, and the words already merged, of one call.
struct EncodeScratch {
  std::deque<std::string> normalized;
  PreTokenizer::Scratch pieces;
  BpeModel::WordCache words;
};

absl::Status encodePlain(const TokenizerParts& parts, std::string_view text,
                         bool isFirst, EncodeScratch& scratch,
                         std::vector<int32_t>& ids) {
  if (parts.preTokenizer.empty())
    return parts.model.encode(text, scratch.words, ids);
  LLMRT_RETURN_IF_ERROR(
      parts.preTokenizer.apply(text, isFirst, scratch.pieces));
  for (std::string_view piece : scratch.pieces.pieces)
    LLMRT_RETURN_IF_ERROR(parts.model.encode(piece, scratch.words, ids));
  return absl::OkStatus();
}

absl::Status encodeUnmarked(const TokenizerParts& parts, std::string_view text,
                            bool isFirst, bool parseSpecial,
                            EncodeScratch& scratch, std::vector<int32_t>& ids) {
  if (parts.sentencePiece) {
    std::string why = parts.sentencePiece->encode(text, ids);
    if (why.empty())
      return absl::OkStatus();
    return makeError(
        ErrorCode::TextNotEncodable,
        absl::StrCat("libsentencepiece cannot encode the text: ", why),
        "check the tokenizer file");
  }
  if (!parts.normalizer.empty()) {
    LLMRT_ASSIGN_OR_RETURN(std::string normalized,
                           parts.normalizer.apply(text));
    text = scratch.normalized.emplace_back(std::move(normalized));
  }
  if (parts.normalizedTokens.empty())
    return encodePlain(parts, text, isFirst, scratch, ids);
  for (const TextPart& part :
       parts.normalizedTokens.split(text, parseSpecial)) {
    if (part.id >= 0)
      ids.push_back(part.id);
    else
      LLMRT_RETURN_IF_ERROR(
          encodePlain(parts, part.text, isFirst, scratch, ids));
    isFirst = false;
  }
  return absl::OkStatus();
}

} // namespace

void addKnownEosIds(TokenizerParts& parts) {
  for (int32_t id = 0; id < parts.vocabulary.sizeTokens(); ++id) {
    if (parts.vocabulary.kind(id) != TokenKind::Control)
      continue;
    if (std::find(std::begin(kEndTokens), std::end(kEndTokens),
                  parts.vocabulary.text(id)) != std::end(kEndTokens))
      parts.eosIds.push_back(id);
  }
}

Tokenizer::Tokenizer(std::unique_ptr<TokenizerParts> parts)
    : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>>
Tokenizer::create(std::unique_ptr<TokenizerParts> parts) {
  addKnownEosIds(*parts);
  auto& eosIds = parts->eosIds;
  std::erase_if(eosIds,
                [&](int32_t id) { return !parts->vocabulary.contains(id); });
  std::sort(eosIds.begin(), eosIds.end());
  eosIds.erase(std::unique(eosIds.begin(), eosIds.end()), eosIds.end());
  if (parts->bosId && !parts->vocabulary.contains(*parts->bosId))
    parts->bosId.reset();
  parts->rawTokens.buildIndex();
  parts->normalizedTokens.buildIndex();
  parts->model.finish(parts->vocabulary);
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

absl::StatusOr<std::vector<int32_t>>
Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (size_t at = findInvalidUtf8(text); at != std::string_view::npos)
    return makeError(
        ErrorCode::TextNotUtf8,
        absl::StrCat("the text is not valid UTF-8 at byte offset ", at),
        "convert it to UTF-8, for example with iconv");
  std::vector<int32_t> ids;
  if (options.addBos)
    ids = parts_->prefixIds;
  EncodeScratch scratch;
  bool isFirst = true;
  for (const TextPart& part :
       parts_->rawTokens.split(text, options.parseSpecial)) {
    if (part.id >= 0)
      ids.push_back(part.id);
    else
      LLMRT_RETURN_IF_ERROR(encodeUnmarked(*parts_, part.text, isFirst,
                                           options.parseSpecial, scratch, ids));
    isFirst = false;
  }
  if (options.addBos)
    ids.insert(ids.end(), parts_->suffixIds.begin(), parts_->suffixIds.end());
  return ids;
}

std::string Tokenizer::decode(absl::Span<const int32_t> ids,
                              const DecodeOptions& options) const {
  StreamingDecoder decoder(*this, options);
  std::string text;
  for (int32_t id : ids)
    text += decoder.push(id);
  return text + decoder.finish();
}

int32_t Tokenizer::vocabSize() const { return parts_->vocabulary.sizeTokens(); }

std::optional<int32_t> Tokenizer::bosId() const { return parts_->bosId; }

const std::vector<int32_t>& Tokenizer::eosIds() const { return parts_->eosIds; }

bool Tokenizer::isEos(int32_t id) const {
  return std::binary_search(parts_->eosIds.begin(), parts_->eosIds.end(), id);
}

std::string_view Tokenizer::tokenText(int32_t id) const {
  return parts_->vocabulary.text(id);
}

std::optional<int32_t> Tokenizer::findSpecial(std::string_view text) const {
  for (int32_t id = 0; id < vocabSize(); ++id) {
    TokenKind kind = parts_->vocabulary.kind(id);
    if ((kind == TokenKind::Control || kind == TokenKind::UserDefined) &&
        parts_->vocabulary.text(id) == text)
      return id;
  }
  return std::nullopt;
}

const std::string& Tokenizer::chatTemplateText() const {
  return parts_->chatTemplate;
}

uint64_t Tokenizer::fingerprint() const { return parts_->fingerprint; }

} // namespace llmrt
