// SPDX-License-Identifier: Apache-2.0
// A Hugging Face folder as the importer sees it: config.json, tensor names,
// tokenizer files. Field meanings are the families' work.
#include "models/ImportSteps.h"

#include "runtime/base/Error.h"

#include "absl/strings/match.h"

#include <filesystem>

namespace llmc {

using llmrt::ErrorCode;
using llmrt::makeError;
using nlohmann::json;

namespace {

bool hasTokenizerFiles(const std::string& folder) {
  auto has = [&](const char* name) {
    return std::filesystem::exists(std::filesystem::path(folder) / name);
  };
  return has("tokenizer.json") || has("tokenizer.model") ||
         (has("encoder.json") && has("vocab.bpe")) ||
         (has("vocab.json") && has("merges.txt"));
}

/// Buffers that older versions of transformers saved, and the parts of a
/// checkpoint that are not the text model.
bool isIgnored(const std::string& name, const ModelConfig& config) {
  for (const char* suffix :
       {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"})
    if (absl::EndsWith(name, suffix))
      return true;
  for (const char* part : {"vision_tower.", "multi_modal_projector."})
    if (absl::StartsWith(name, part) ||
        absl::StartsWith(name, absl::StrCat("model.", part)))
      return true;
  return config.isHeadTied && absl::EndsWith(name, "lm_head.weight");
}

const Family* familyOf(const std::string& modelType) {
  for (const Family* family : families())
    for (const std::string& type : family->modelTypes)
      if (type == modelType)
        return family;
  return nullptr;
}

/// Makes the config of a text model out of that of a model with other parts:
/// what text_config leaves out is as in the class.
json textConfig(const Family& family, const json& config) {
  json text =
      family.textDefaults ? json::parse(family.textDefaults) : json::object();
  text.update(config["text_config"]);
  for (const char* field : {"bos_token_id", "eos_token_id"})
    if (config.contains(field))
      text[field] = config[field];
  return text;
}

} // namespace

absl::StatusOr<ModelDescription>
describeHuggingFace(const std::string& folder,
                    const llmrt::WeightSource& weights) {
  std::string path = (std::filesystem::path(folder) / "config.json").string();
  LLMRT_ASSIGN_OR_RETURN(ConfigReader reader, ConfigReader::open(path));
  std::string modelType = reader.textOr("model_type", "");
  LLMRT_RETURN_IF_ERROR(reader.status());
  if (modelType.empty())
    return makeError(ErrorCode::ConfigFieldMissing,
                     "missing field: model_type in " + path,
                     "add the field, or download the file again");
  const Family* family = familyOf(modelType);
  if (!family)
    return makeError(ErrorCode::FamilyUnknown,
                     "unknown model_type " + modelType + " in " + path,
                     "supported families: " + familyNames());
  std::vector<std::string> classes = reader.textsOrNone("architectures");
  bool isKnownClass = classes.empty();
  for (const std::string& name : classes)
    for (const std::string& known : family->architectures)
      isKnownClass = isKnownClass || name == known;
  if (!isKnownClass)
    reader.refuse("architectures", family->architectures.front());
  if (reader.has("text_config") &&
      !reader.object("text_config").fields().empty())
    reader = ConfigReader(textConfig(*family, reader.fields()), path);
  LLMRT_RETURN_IF_ERROR(reader.status());

  ModelDescription description{family, std::move(reader)};
  description.isIgnored = isIgnored;
  description.hasTokenizer = hasTokenizerFiles(folder);
  description.sourceNames = [family, &weights](const std::string& name) {
    if (weights.find(name))
      return name;
    for (const auto& [prefix, other] : family->prefixes)
      if (absl::StartsWith(name, prefix) &&
          weights.find(other + name.substr(prefix.size())))
        return other + name.substr(prefix.size());
    return name;
  };
  return description;
}

} // namespace llmc
