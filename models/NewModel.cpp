// SPDX-License-Identifier: Apache-2.0
// --new=FAMILY,key=value,...: a published config with some fields changed.
#include "models/Import.h"
#include "models/ImportSteps.h"

#include "runtime/base/Error.h"

#include "absl/strings/numbers.h"
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

/// Number of single-character changes from `a` to `b`.
size_t editDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1,
                         diagonal + (a[i - 1] != b[j - 1] ? 1 : 0)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

absl::Status unknown(const std::string& what, const std::string& word,
                     const std::vector<std::string>& known, ErrorCode code) {
  const std::string* nearest = nullptr;
  std::string list;
  for (const std::string& name : known) {
    list += (list.empty() ? "" : ", ") + name;
    if (word.size() < 64 &&
        (!nearest || editDistance(word, name) < editDistance(word, *nearest)))
      nearest = &name;
  }
  std::string advice = "known: " + list;
  if (nearest && editDistance(word, *nearest) <= 3)
    advice = "did you mean " + *nearest + "? " + advice;
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
