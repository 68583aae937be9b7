// SPDX-License-Identifier: Apache-2.0
// What the fields of a tokenizer.json mean. Components that are not supported
// are refused by name: leaving one out would make other tokens. The format has
// no specification but its implementation:
// https://github.com/huggingface/tokenizers
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ByteAlphabet.h"
#include "runtime/io/tokenizer/JsonFields.h"
#include "runtime/io/tokenizer/TokenWriter.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "runtime/io/tokenizer/Utf8.h"

#include <limits>

namespace llmrt {
namespace {

using nlohmann::json;

absl::Status unsupported(const char* part, absl::string_view what) {
  return makeError(
      ErrorCode::TokenizerUnsupported,
      absl::StrCat("the ", part, " of tokenizer.json is not supported: ", what),
      "use a tokenizer of a supported family");
}

absl::StatusOr<std::string> typeOf(const json& component) {
  return readTextField(component, "type");
}

// A pattern is {"String": ..} or {"Regex": ..}.
absl::StatusOr<Regex> readPattern(const json& component) {
  const json* pattern = findField(component, "pattern");
  if (!pattern)
    return fieldError("pattern", "is missing");
  if (pattern->is_string())
    return Regex::compileLiteral(pattern->get_ref<const std::string&>());
  LLMRT_ASSIGN_OR_RETURN(std::string literal,
                         readTextField(*pattern, "String"));
  if (!literal.empty())
    return Regex::compileLiteral(literal);
  LLMRT_ASSIGN_OR_RETURN(std::string expression,
                         readTextField(*pattern, "Regex"));
  if (expression.empty())
    return fieldError("pattern", "is neither a String nor a Regex");
  return Regex::compile(expression);
}

// Calls `read` for the component itself, or for each member of a Sequence.
template <class Read>
absl::Status forEachComponent(const json* component, const char* members,
                              Read read) {
  if (!component)
    return absl::OkStatus();
  absl::StatusOr<std::string> type = typeOf(*component);
  if (!type.ok())
    return type.status();
  if (*type != "Sequence")
    return read(*component, *type);
  const json* list = findField(*component, members);
  if (!list || !list->is_array())
    return fieldError(members, "is not a list");
  for (const json& member : *list)
    LLMRT_RETURN_IF_ERROR(forEachComponent(&member, members, read));
  return absl::OkStatus();
}

absl::Status readNormalizer(const json& component, const std::string& type,
                            Normalizer& out) {
  using Form = Normalizer::Form;
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    out.addForm(type == "NFC"    ? Form::Nfc
                : type == "NFD"  ? Form::Nfd
                : type == "NFKC" ? Form::Nfkc
                                 : Form::Nfkd);
    return absl::OkStatus();
  }
  if (type == "Prepend") {
    LLMRT_ASSIGN_OR_RETURN(std::string text,
                           readTextField(component, "prepend"));
    out.addPrepend(std::move(text));
    return absl::OkStatus();
  }
  if (type == "Replace") {
    LLMRT_ASSIGN_OR_RETURN(Regex pattern, readPattern(component));
    LLMRT_ASSIGN_OR_RETURN(std::string content,
                           readTextField(component, "content"));
    out.addReplace(std::move(pattern), std::move(content));
    return absl::OkStatus();
  }
  if (type == "Strip") {
    LLMRT_ASSIGN_OR_RETURN(bool left,
                           readBoolField(component, "strip_left", true));
    LLMRT_ASSIGN_OR_RETURN(bool right,
                           readBoolField(component, "strip_right", true));
    out.addStrip(left, right);
    return absl::OkStatus();
  }
  return unsupported("normalizer", type);
}

absl::Status readSplit(const json& component, PreTokenizer& out) {
  using Behavior = PreTokenizer::Behavior;
  LLMRT_ASSIGN_OR_RETURN(Regex pattern, readPattern(component));
  LLMRT_ASSIGN_OR_RETURN(std::string name,
                         readTextField(component, "behavior"));
  LLMRT_ASSIGN_OR_RETURN(bool inverts,
                         readBoolField(component, "invert", false));
  Behavior behavior = Behavior::Isolated;
  if (name == "Removed")
    behavior = Behavior::Removed;
  else if (name == "MergedWithPrevious")
    behavior = Behavior::MergedWithPrevious;
  else if (name == "MergedWithNext")
    behavior = Behavior::MergedWithNext;
  else if (name == "Contiguous")
    behavior = Behavior::Contiguous;
  else if (name != "Isolated")
    return unsupported("pre_tokenizer", absl::StrCat("Split behavior ", name));
  out.addSplit(std::move(pattern), behavior, inverts);
  return absl::OkStatus();
}

// Reads the scheme by which a Metaspace puts a marker before a text. Old files
// have add_prefix_space in its place.
absl::StatusOr<PreTokenizer::Prepend> readPrepend(const json& component) {
  LLMRT_ASSIGN_OR_RETURN(std::string scheme,
                         readTextField(component, "prepend_scheme"));
  LLMRT_ASSIGN_OR_RETURN(bool adds,
                         readBoolField(component, "add_prefix_space", true));
  if (scheme == "first")
    return PreTokenizer::Prepend::First;
  if (scheme == "never" || (scheme.empty() && !adds))
    return PreTokenizer::Prepend::Never;
  if (scheme == "always" || scheme.empty())
    return PreTokenizer::Prepend::Always;
  return unsupported("Metaspace", absl::StrCat("prepend_scheme ", scheme));
}

absl::Status readMetaspace(const json& component, PreTokenizer& out) {
  LLMRT_ASSIGN_OR_RETURN(std::string marker,
                         readTextField(component, "replacement"));
  if (marker.empty())
    marker = std::string(kSpaceMarker);
  LLMRT_ASSIGN_OR_RETURN(PreTokenizer::Prepend prepend, readPrepend(component));
  LLMRT_ASSIGN_OR_RETURN(bool splits, readBoolField(component, "split", true));
  LLMRT_ASSIGN_OR_RETURN(Regex pattern, Regex::compileLiteral(marker));
  out.addMetaspace(std::move(marker), prepend, splits, std::move(pattern));
  return absl::OkStatus();
}

// Returns through `isByteLevel` whether the words become the byte alphabet
// here.
absl::Status readPreTokenizer(const json& component, const std::string& type,
                              PreTokenizer& out, bool& isByteLevel) {
  using Behavior = PreTokenizer::Behavior;
  if (isByteLevel)
    return unsupported("pre_tokenizer", absl::StrCat(type, " after ByteLevel"));
  if (type == "Split")
    return readSplit(component, out);
  if (type == "Metaspace")
    return readMetaspace(component, out);
  if (type == "Digits") {
    LLMRT_ASSIGN_OR_RETURN(
        bool isSingle, readBoolField(component, "individual_digits", false));
    LLMRT_ASSIGN_OR_RETURN(Regex pattern,
                           Regex::compile(isSingle ? R"(\p{N})" : R"(\p{N}+)"));
    out.addSplit(std::move(pattern), Behavior::Isolated, false);
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    isByteLevel = true;
    LLMRT_ASSIGN_OR_RETURN(bool addsSpace,
                           readBoolField(component, "add_prefix_space", true));
    LLMRT_ASSIGN_OR_RETURN(bool usesPattern,
                           readBoolField(component, "use_regex", true));
    if (addsSpace)
      out.addPrefixSpace();
    if (!usesPattern)
      return absl::OkStatus();
    LLMRT_ASSIGN_OR_RETURN(Regex pattern, Regex::compile(kGpt2Pattern));
    out.addSplit(std::move(pattern), Behavior::Isolated, false);
    return absl::OkStatus();
  }
  return unsupported("pre_tokenizer", type);
}

absl::Status readStrip(const json& component, DecoderSpec& out) {
  LLMRT_ASSIGN_OR_RETURN(std::string content,
                         readTextField(component, "content"));
  LLMRT_ASSIGN_OR_RETURN(int32_t start, readIdField(component, "start"));
  LLMRT_ASSIGN_OR_RETURN(int32_t stop, readIdField(component, "stop"));
  if (content != " " || stop != 0)
    return unsupported("decoder", "Strip of other than leading spaces");
  out.leadingSpaces = static_cast<uint32_t>(start);
  return absl::OkStatus();
}

absl::Status readDecoder(const json& component, const std::string& type,
                         DecoderSpec& out) {
  if (type == "ByteLevel") {
    out.isByteLevel = true;
    return absl::OkStatus();
  }
  if (type == "ByteFallback") {
    out.hasByteTokens = true;
    return absl::OkStatus();
  }
  // Joining is how this decoder works.
  if (type == "Fuse")
    return absl::OkStatus();
  if (type == "Strip")
    return readStrip(component, out);
  if (type == "Replace") {
    const json* pattern = findField(component, "pattern");
    LLMRT_ASSIGN_OR_RETURN(
        std::string from, readTextField(pattern ? *pattern : json(), "String"));
    LLMRT_ASSIGN_OR_RETURN(std::string to, readTextField(component, "content"));
    if (from.empty())
      return unsupported("decoder", "Replace of a regular expression");
    out.replacements.emplace_back(std::move(from), std::move(to));
    return absl::OkStatus();
  }
  if (type == "Metaspace") {
    LLMRT_ASSIGN_OR_RETURN(PreTokenizer::Prepend prepend,
                           readPrepend(component));
    LLMRT_ASSIGN_OR_RETURN(std::string marker,
                           readTextField(component, "replacement"));
    if (!marker.empty() && marker != kSpaceMarker)
      return unsupported("decoder", absl::StrCat("Metaspace of ", marker));
    out.dropsFirstMarkers = prepend != PreTokenizer::Prepend::Never;
    out.replacements.emplace_back(kSpaceMarker, " ");
    return absl::OkStatus();
  }
  return unsupported("decoder", type);
}

// The ids of a special token of a template.
absl::Status readTemplateToken(const json& processor, const json& token,
                               std::vector<int32_t>& ids) {
  LLMRT_ASSIGN_OR_RETURN(std::string name, readTextField(token, "id"));
  const json* specials = findField(processor, "special_tokens");
  const json* special = specials ? findField(*specials, name.c_str()) : nullptr;
  const json* list = special ? findField(*special, "ids") : nullptr;
  if (!list || !list->is_array())
    return fieldError("special_tokens", "has no ids for a token of a template");
  for (const json& id : *list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() > std::numeric_limits<int32_t>::max())
      return fieldError("special_tokens", "has an id that is none");
    ids.push_back(id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::Status readPostProcessor(const json& component, const std::string& type,
                               TokenizerParts& parts) {
  // It only moves offsets, which this tokenizer does not give.
  if (type == "ByteLevel")
    return absl::OkStatus();
  if (type != "TemplateProcessing")
    return unsupported("post_processor", type);
  const json* single = findField(component, "single");
  if (!single || !single->is_array())
    return fieldError("single", "is not a list");
  bool isBefore = true;
  for (const json& entry : *single) {
    if (findField(entry, "Sequence"))
      isBefore = false;
    else if (const json* token = findField(entry, "SpecialToken"))
      LLMRT_RETURN_IF_ERROR(readTemplateToken(
          component, *token, isBefore ? parts.prefixIds : parts.suffixIds));
    else
      return fieldError("single", "has an entry of unknown kind");
  }
  for (int32_t id : parts.prefixIds)
    if (!parts.vocabulary.contains(id))
      return fieldError("special_tokens", "names an id without a token");
  for (int32_t id : parts.suffixIds)
    if (!parts.vocabulary.contains(id))
      return fieldError("special_tokens", "names an id without a token");
  return absl::OkStatus();
}

absl::StatusOr<BpeModel::Options> readModelOptions(const json& model,
                                                   bool isByteLevel) {
  LLMRT_ASSIGN_OR_RETURN(std::string type, typeOf(model));
  if (type != "BPE" && !type.empty())
    return unsupported("model", type);
  const json* dropout = findField(model, "dropout");
  if (dropout && (!dropout->is_number() || dropout->get<double>() != 0))
    return unsupported("model", "dropout, which makes tokens random");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    LLMRT_ASSIGN_OR_RETURN(std::string affix, readTextField(model, name));
    if (!affix.empty())
      return unsupported("model", absl::StrCat(name, " ", affix));
  }
  BpeModel::Options options;
  options.start =
      isByteLevel ? BpeModel::Start::Bytes : BpeModel::Start::Characters;
  LLMRT_ASSIGN_OR_RETURN(options.ignoreMerges,
                         readBoolField(model, "ignore_merges", false));
  LLMRT_ASSIGN_OR_RETURN(options.byteFallback,
                         readBoolField(model, "byte_fallback", false));
  LLMRT_ASSIGN_OR_RETURN(options.fuseUnknown,
                         readBoolField(model, "fuse_unk", false));
  return options;
}

absl::Status readVocabulary(const TokenizerDocument& document,
                            bool hasByteTokens, TokenWriter& writer) {
  const auto& [tokens, ids] = document.modelVocabulary;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (ids[i] < 0 || ids[i] > std::numeric_limits<int32_t>::max())
      return fieldError("vocab", "has an id out of range");
    bool isByte = hasByteTokens && byteOfToken(tokens[i]) >= 0;
    LLMRT_RETURN_IF_ERROR(
        writer.addToken(static_cast<int32_t>(ids[i]), tokens[i],
                        isByte ? TokenKind::Byte : TokenKind::Normal));
  }
  return absl::OkStatus();
}

absl::Status readMerges(const TokenizerDocument& document, BpeModel& model,
                        TokenWriter& writer) {
  const TextList& merges = document.merges;
  model.reserveMerges(merges.size() / (document.mergesArePairs ? 2 : 1));
  if (!document.mergesArePairs) {
    for (size_t i = 0; i < merges.size(); ++i)
      LLMRT_RETURN_IF_ERROR(writer.addMerge(merges[i]));
    return absl::OkStatus();
  }
  for (size_t i = 0; i + 1 < merges.size(); i += 2)
    LLMRT_RETURN_IF_ERROR(writer.addMerge(merges[i], merges[i + 1]));
  return absl::OkStatus();
}

absl::Status readAddedTokens(const json& fields, const TokenizerConfig& config,
                             TokenizerParts& parts, TokenWriter& writer) {
  std::vector<int32_t> ids;
  if (const json* list = findField(fields, "added_tokens")) {
    if (!list->is_array())
      return fieldError("added_tokens", "is not a list");
    for (const json& entry : *list) {
      LLMRT_ASSIGN_OR_RETURN(AddedToken token, readAddedToken(entry));
      LLMRT_ASSIGN_OR_RETURN(token.id, readIdField(entry, "id"));
      LLMRT_RETURN_IF_ERROR(writer.addAddedToken(token));
    }
  }
  for (const AddedToken& token : config.addedTokens)
    if (!parts.vocabulary.contains(token.id))
      LLMRT_RETURN_IF_ERROR(writer.addAddedToken(token));
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<std::unique_ptr<TokenizerParts>>
readTokenizerJson(const TokenizerDocument& document,
                  const TokenizerConfig& config) {
  const json& fields = document.fields;
  const json* model = findField(fields, "model");
  if (!model || !document.hasModelVocabulary) {
    LLMRT_ASSIGN_OR_RETURN(std::string type, typeOf(model ? *model : json()));
    if (!type.empty() && type != "BPE")
      return unsupported("model", type);
    return fieldError("model.vocab", "is missing or no object");
  }
  auto parts = std::make_unique<TokenizerParts>();
  bool isByteLevel = false;
  LLMRT_RETURN_IF_ERROR(forEachComponent(
      findField(fields, "normalizer"), "normalizers",
      [&](const json& component, const std::string& type) {
        return readNormalizer(component, type, parts->normalizer);
      }));
  LLMRT_RETURN_IF_ERROR(
      forEachComponent(findField(fields, "pre_tokenizer"), "pretokenizers",
                       [&](const json& component, const std::string& type) {
                         return readPreTokenizer(
                             component, type, parts->preTokenizer, isByteLevel);
                       }));
  parts->decoder.isByteLevel = false;
  LLMRT_RETURN_IF_ERROR(
      forEachComponent(findField(fields, "decoder"), "decoders",
                       [&](const json& component, const std::string& type) {
                         return readDecoder(component, type, parts->decoder);
                       }));
  if (parts->decoder.isByteLevel != isByteLevel)
    return unsupported("decoder", "one of decoder and pre_tokenizer is "
                                  "byte-level and the other is not");
  if (!findField(fields, "decoder"))
    return unsupported("decoder", "none");
  LLMRT_ASSIGN_OR_RETURN(BpeModel::Options options,
                         readModelOptions(*model, isByteLevel));
  TokenWriter writer(*parts, isByteLevel);
  LLMRT_RETURN_IF_ERROR(readVocabulary(
      document, options.byteFallback || parts->decoder.hasByteTokens, writer));
  parts->vocabulary.buildIndex();
  LLMRT_ASSIGN_OR_RETURN(std::string unknown,
                         readTextField(*model, "unk_token"));
  if (!unknown.empty())
    options.unknownId = parts->vocabulary.find(unknown);
  parts->model.setOptions(options);
  LLMRT_RETURN_IF_ERROR(readMerges(document, parts->model, writer));
  LLMRT_RETURN_IF_ERROR(readAddedTokens(fields, config, *parts, writer));
  LLMRT_RETURN_IF_ERROR(
      forEachComponent(findField(fields, "post_processor"), "processors",
                       [&](const json& component, const std::string& type) {
                         return readPostProcessor(component, type, *parts);
                       }));
  LLMRT_RETURN_IF_ERROR(applyTokenizerConfig(config, *parts));
  return parts;
}

} // namespace llmrt
