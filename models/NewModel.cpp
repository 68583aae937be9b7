// SPDX-License-Identifier: Apache-2.0
// --new=FAMILY,key=value,...: a published config with some fields changed.
#include "models/Import.h"
#include "models/ImportSteps.h"

#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include <algorithm>
#include <map>

namespace llmc {

using llmrt::ErrorCode;
using llmrt::makeError;
using nlohmann::json;

namespace {

struct NewModelKey {
  const char* name;
  const char* field; // of Llama's config.json
  bool isInteger;
};

constexpr NewModelKey kKeys[] = {
    {"layers", "num_hidden_layers", true},
    {"hidden", "hidden_size", true},
    {"heads", "num_attention_heads", true},
    {"kv_heads", "num_key_value_heads", true},
    {"head_dim", "head_dim", true},
    {"intermediate", "intermediate_size", true},
    {"vocab", "vocab_size", true},
    {"context", "max_position_embeddings", true},
    {"window", "sliding_window", true},
    {"rope_theta", "rope_theta", false},
    {"eps", "rms_norm_eps", false},
    {"init_std", "initializer_range", false},
    {"tied", "tie_word_embeddings", true},
};

absl::Status unknown(const std::string& what, const std::string& word,
                     const std::vector<std::string>& known, ErrorCode code) {
  std::string advice = "known: " + absl::StrJoin(known, ", ");
  std::string nearest = llmrt::nearestName(word, known);
  if (!nearest.empty())
    advice = "did you mean " + nearest + "? " + advice;
  return makeError(code, "unknown " + what + " in --new: " + word, advice);
}

absl::Status setField(const std::string& pair, const Family& family,
                      json& config, std::map<std::string, std::string>& seen) {
  std::pair<std::string, std::string> parts =
      absl::StrSplit(pair, absl::MaxSplits('=', 1));
  const auto& [name, text] = parts;
  std::vector<std::string> known;
  for (const NewModelKey& key : kKeys) {
    known.push_back(key.name);
    if (key.name != name)
      continue;
    int64_t integer = 0;
    double number = 0;
    bool isRight = key.isInteger ? absl::SimpleAtoi(text, &integer)
                                 : absl::SimpleAtod(text, &number);
    if (!isRight)
      return makeError(ErrorCode::NewModelOption,
                       "--new: " + name + " needs " +
                           (key.isInteger ? "an integer" : "a number") +
                           ", got " + (text.empty() ? "nothing" : text),
                       "write it as " + name + "=...");
    std::string field = family.field(key.field);
    if (!seen.emplace(name, field).second)
      return makeError(ErrorCode::NewModelOption,
                       "--new: " + name + " is given twice", "give it once");
    if (field == "tie_word_embeddings")
      config[field] = integer != 0;
    else if (key.isInteger)
      config[field] = integer;
    else
      config[field] = number;
    return absl::OkStatus();
  }
  return unknown("key", name, known, ErrorCode::NewModelOption);
}

} // namespace

std::string newModelKeys() {
  std::string names;
  for (const NewModelKey& key : kKeys)
    names += (names.empty() ? "" : ", ") + std::string(key.name);
  return names;
}

absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
newModel(mlir::MLIRContext& context, absl::string_view spec) {
  std::vector<std::string> parts = absl::StrSplit(spec, ',');
  const Family* family = findFamily(parts[0]);
  if (!family) {
    std::vector<std::string> known;
    for (const Family* f : families())
      known.push_back(f->name);
    return unknown("family", parts[0], known, ErrorCode::FamilyUnknown);
  }
  json config = json::parse(family->defaults);
  std::map<std::string, std::string> seen; // key to field
  for (size_t i = 1; i < parts.size(); ++i)
    LLMRT_RETURN_IF_ERROR(setField(parts[i], *family, config, seen));
  if (seen.count("heads") && !seen.count("kv_heads"))
    config.erase("num_key_value_heads");
  // Special tokens of the published vocabulary mean nothing in another one.
  if (seen.count("vocab")) {
    config.erase("bos_token_id");
    config.erase("eos_token_id");
  }
  std::map<std::string, std::string> shown;
  ModelDescription description{family};
  // Named as in a checkpoint of the family, so that it can be exported as one.
  description.sourceNames = [](const std::string& name) { return name; };
  description.config = config.dump();
  for (const auto& [key, field] : seen) {
    shown[field] = key;
    description.givenFields.push_back(field);
  }
  description.reader =
      ConfigReader(std::move(config), absl::StrCat("--new=", spec), shown);
  return buildModel(context, description, /*files=*/{}, /*weights=*/nullptr);
}

} // namespace llmc
