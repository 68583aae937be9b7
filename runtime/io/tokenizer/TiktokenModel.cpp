// SPDX-License-Identifier: Apache-2.0
// Llama 3's tokenizer.model: "base64 rank" lines. The file holds neither the
// splitting expression nor the 256 special tokens: they are in Meta's
// llama-models repository (models/llama3/tokenizer.py) and are known here for
// that vocabulary only.
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/PreTokenizerPatterns.h"
#include "runtime/io/tokenizer/TokenWriter.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"

#include <iterator>
#include <numeric>

namespace llmrt {
namespace {

constexpr int32_t kNumLlama3Ranks = 128000;
constexpr int32_t kNumLlama3Specials = 256;

// The special tokens that have names, by their place after the ranks; the
// others are
// <|reserved_special_token_N|>. Places 4, 8 and 10 got their names with
// Llama 3.1.
struct NamedSpecial {
  int32_t place;
  const char* text;
};

constexpr NamedSpecial kLlama3Specials[] = {
    {0, "<|begin_of_text|>"},
    {1, "<|end_of_text|>"},
    {4, "<|finetune_right_pad_id|>"},
    {6, "<|start_header_id|>"},
    {7, "<|end_header_id|>"},
    {8, "<|eom_id|>"},
    {9, "<|eot_id|>"},
    {10, "<|python_tag|>"},
};

absl::Status corruptLine(int32_t line, absl::string_view what) {
  return makeError(
      ErrorCode::TokenizerCorrupt,
      absl::StrCat("line ", line + 1, " of tokenizer.model ", what),
      "get the tokenizer file again");
}

absl::Status readRanks(std::string_view bytes, Vocabulary& vocabulary) {
  int32_t line = 0;
  for (; !bytes.empty(); ++line) {
    size_t end = std::min(bytes.find('\n'), bytes.size());
    absl::string_view text(bytes.data(), end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    size_t space = text.find(' ');
    int32_t rank = -1;
    std::string token;
    if (space == absl::string_view::npos ||
        !absl::Base64Unescape(text.substr(0, space), &token) ||
        !absl::SimpleAtoi(text.substr(space + 1), &rank))
      return corruptLine(line, "is not a base64 token and its rank");
    if (token.empty() || rank != line)
      return corruptLine(line, absl::StrCat("has rank ", rank));
    LLMRT_RETURN_IF_ERROR(
        vocabulary.set(rank, token, TokenKind::Normal, /*isFound=*/true));
  }
  if (line != kNumLlama3Ranks)
    return makeError(
        line < kNumLlama3Ranks ? ErrorCode::TokenizerCorrupt
                               : ErrorCode::TokenizerUnsupported,
        absl::StrCat("tokenizer.model has ", line, " ranks, Llama 3's has ",
                     kNumLlama3Ranks),
        "get the file again, or put the model's tokenizer.json beside it");
  return absl::OkStatus();
}

std::string specialText(int32_t place) {
  for (const NamedSpecial& named : kLlama3Specials)
    if (named.place == place)
      return named.text;
  // Reserved tokens are numbered in order, leaving out the named places of
  // Llama 3.0.
  int32_t number = place < 6 ? place - 2 : place < 9 ? place - 4 : place - 5;
  return absl::StrCat("<|reserved_special_token_", number, "|>");
}

} // namespace

absl::StatusOr<std::unique_ptr<TokenizerParts>>
readTiktokenModel(std::string_view bytes, const TokenizerConfig& config) {
  auto parts = std::make_unique<TokenizerParts>();
  LLMRT_RETURN_IF_ERROR(readRanks(bytes, parts->vocabulary));
  parts->vocabulary.buildIndex();
  LLMRT_RETURN_IF_ERROR(
      addSplits(*findPreTokenizer("llama-bpe"), parts->preTokenizer));
  BpeModel::Options options;
  options.merges = BpeModel::Merges::Vocabulary;
  options.ignoreMerges = true;
  parts->model.setOptions(options);
  std::vector<int32_t> ranks(kNumLlama3Ranks + kNumLlama3Specials, -1);
  std::iota(ranks.begin(), ranks.begin() + kNumLlama3Ranks, 0);
  parts->model.setTokenRanks(std::move(ranks));
  TokenWriter writer(*parts, /*isByteLevel=*/false);
  for (const AddedToken& token : config.addedTokens)
    LLMRT_RETURN_IF_ERROR(writer.addAddedToken(token));
  for (int32_t place = 0; place < kNumLlama3Specials; ++place) {
    // A tokenizer_config.json beside the file knows which version's names hold.
    if (parts->vocabulary.contains(kNumLlama3Ranks + place))
      continue;
    AddedToken token;
    token.content = specialText(place);
    token.id = kNumLlama3Ranks + place;
    token.isSpecial = true;
    LLMRT_RETURN_IF_ERROR(writer.addAddedToken(token));
  }
  parts->bosId = kNumLlama3Ranks;
  parts->prefixIds = {kNumLlama3Ranks};
  LLMRT_RETURN_IF_ERROR(applyTokenizerConfig(config, *parts));
  return parts;
}

} // namespace llmrt
