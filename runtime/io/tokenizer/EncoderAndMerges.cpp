// SPDX-License-Identifier: Apache-2.0
// GPT-2's two files: encoder.json maps written tokens to ids, vocab.bpe lists
// the merges. Hugging Face ships the same as vocab.json and merges.txt, where
// the pre-tokenizer follows from the tokenizer class.
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/PreTokenizerPatterns.h"
#include "runtime/io/tokenizer/TokenWriter.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"

#include <limits>

namespace llmrt {
namespace {

absl::StatusOr<const NamedPreTokenizer*>
preTokenizerOfClass(const std::string& tokenizerClass) {
  if (tokenizerClass.empty() || tokenizerClass.starts_with("GPT2Tokenizer"))
    return findPreTokenizer("gpt-2");
  if (tokenizerClass.starts_with("Qwen2Tokenizer"))
    return findPreTokenizer("qwen2");
  return makeError(
      ErrorCode::TokenizerUnsupported,
      absl::StrCat("vocab.json and merges.txt do not say how text is split, "
                   "and the tokenizer class is not known: ",
                   tokenizerClass),
      "put the model's tokenizer.json beside them");
}

absl::Status readMergeLines(std::string_view merges, TokenWriter& writer) {
  while (!merges.empty()) {
    size_t end = std::min(merges.find('\n'), merges.size());
    std::string_view line = merges.substr(0, end);
    merges.remove_prefix(std::min(end + 1, merges.size()));
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version"))
      continue;
    LLMRT_RETURN_IF_ERROR(writer.addMerge(line));
  }
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<std::unique_ptr<TokenizerParts>>
readEncoderAndMerges(const TokenizerDocument& encoder, std::string_view merges,
                     const TokenizerConfig& config) {
  const auto& [tokens, ids] = encoder.encoder;
  if (tokens.size() == 0 ||
      (encoder.fields.is_object() && !encoder.fields.empty()))
    return makeError(ErrorCode::TokenizerCorrupt,
                     "the vocabulary is not an object of tokens and ids",
                     "get encoder.json or vocab.json again");
  LLMRT_ASSIGN_OR_RETURN(const NamedPreTokenizer* named,
                         preTokenizerOfClass(config.tokenizerClass));
  auto parts = std::make_unique<TokenizerParts>();
  LLMRT_RETURN_IF_ERROR(addSplits(*named, parts->preTokenizer));
  if (named->normalizesNfc)
    parts->normalizer.addForm(Normalizer::Form::Nfc);
  TokenWriter writer(*parts, /*isByteLevel=*/true);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (ids[i] < 0 || ids[i] > std::numeric_limits<int32_t>::max())
      return makeError(ErrorCode::TokenizerCorrupt,
                       absl::StrCat("a token id is out of range: ", ids[i]),
                       "get encoder.json or vocab.json again");
    LLMRT_RETURN_IF_ERROR(writer.addToken(static_cast<int32_t>(ids[i]),
                                          tokens[i], TokenKind::Normal));
  }
  parts->vocabulary.buildIndex();
  parts->model.setOptions({});
  LLMRT_RETURN_IF_ERROR(readMergeLines(merges, writer));
  for (const AddedToken& token : config.addedTokens)
    LLMRT_RETURN_IF_ERROR(writer.addAddedToken(token));
  // GPT-2's files do not mark their one special token.
  AddedToken endOfText;
  endOfText.content = "<|endoftext|>";
  endOfText.id = parts->vocabulary.find(endOfText.content);
  endOfText.isSpecial = true;
  if (endOfText.id >= 0 && config.addedTokens.empty())
    LLMRT_RETURN_IF_ERROR(writer.addAddedToken(endOfText));
  LLMRT_RETURN_IF_ERROR(applyTokenizerConfig(config, *parts));
  return parts;
}

} // namespace llmrt
