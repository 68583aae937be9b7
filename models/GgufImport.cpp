// SPDX-License-Identifier: Apache-2.0
// A GGUF file as the importer sees it: its metadata in Hugging Face's words, so
// that a family reads both through the same code, and llama.cpp's tensor names.
#include "models/ImportSteps.h"

#include "runtime/base/Error.h"
#include "runtime/io/Dequantize.h"

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llmc {

using llmrt::ErrorCode;
using llmrt::GgufFile;
using llmrt::GgufValueType;
using llmrt::makeError;
using nlohmann::json;

namespace {

using Table = std::vector<std::pair<std::string, std::string>>;

/// Fields of config.json and the key, after "<architecture>.", that says the
/// same.
const Table kKeys = {
    {"vocab_size", "vocab_size"},
    {"max_position_embeddings", "context_length"},
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"intermediate_size", "feed_forward_length"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon"},
    {"rope_theta", "rope.freq_base"},
    {"sliding_window", "attention.sliding_window"},
};

/// Logical names and llama.cpp's; inside a layer without "model.layers.N.".
const Table kTensors = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

const std::string* lookUp(const Table& first, const Table& second,
                          const std::string& name) {
  for (const Table* table : {&first, &second})
    for (const auto& [from, to] : *table)
      if (from == name)
        return &to;
  return nullptr;
}

/// "model.layers.3.mlp.up_proj.weight" becomes "blk.3.ffn_up.weight".
std::string ggufTensorName(const Family& family, const std::string& logical) {
  size_t dot = logical.rfind('.');
  std::string stem = logical.substr(0, dot), suffix = logical.substr(dot);
  std::string block;
  std::vector<std::string> parts = absl::StrSplit(stem, '.');
  for (size_t i = 1, start = parts[0].size() + 1; i < parts.size(); ++i) {
    start += parts[i].size() + 1;
    if (parts[i].find_first_not_of("0123456789") != std::string::npos)
      continue;
    block = "blk." + parts[i] + ".";
    stem = stem.substr(start);
    break;
  }
  const std::string* name = lookUp(family.ggufTensors, kTensors, stem);
  return name ? block + *name + suffix : logical;
}

absl::Status addScalar(const GgufFile& file, const std::string& key,
                       json& value) {
  GgufValueType type = file.find(key)->type;
  if (type == GgufValueType::F32 || type == GgufValueType::F64) {
    LLMRT_ASSIGN_OR_RETURN(value, file.readNumber(key));
    return absl::OkStatus();
  }
  LLMRT_ASSIGN_OR_RETURN(value, file.readInteger(key));
  return absl::OkStatus();
}

json llama3Scaling(double factor, double high, int64_t originalContext) {
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", high},
          {"original_max_position_embeddings", originalContext}};
}

/// The divisor that llama3 scaling gives a frequency of `wavelength` positions.
double llama3Divisor(double wavelength, const json& scaling) {
  double factor = scaling["factor"];
  double context = scaling["original_max_position_embeddings"].get<double>();
  double low = context,
         high = context / scaling["high_freq_factor"].get<double>();
  if (wavelength < high)
    return 1;
  if (wavelength > low)
    return factor;
  double smooth = (low / wavelength - 1) / (low / high - 1);
  return 1 / ((1 - smooth) / factor + smooth);
}

/// llama.cpp keeps llama3 scaling as the divisors it gives, in
/// rope_freqs.weight. Finds the numbers that give these divisors: those of
/// every published model, or the same with the original context that one
/// divisor between the ends implies.
absl::StatusOr<json> readRopeFactors(const llmrt::SourceTensor& tensor,
                                     double theta) {
  constexpr double kTolerance = 1e-4; // of f32 divisors of f32 wavelengths
  constexpr double kHigh = 4;
  std::vector<float> divisors(tensor.numElements());
  if (divisors.empty() || divisors.size() > kMaxWidth)
    return makeError(ErrorCode::TensorShapeMismatch,
                     "tensor " + tensor.name + " has shape " +
                         llmrt::shapeText(tensor.shape),
                     "download the file again");
  LLMRT_RETURN_IF_ERROR(llmrt::readElements(
      tensor, 0, static_cast<int64_t>(divisors.size()), divisors.data()));
  double factor = *std::max_element(divisors.begin(), divisors.end());
  auto wavelength = [&](size_t i) {
    return 2 * std::numbers::pi *
           std::pow(theta, static_cast<double>(i) / divisors.size());
  };
  std::vector<json> candidates = {llama3Scaling(factor, kHigh, 8192)};
  for (size_t i = 0; i < divisors.size(); ++i) {
    if (!(divisors[i] > 1 + kTolerance && divisors[i] < factor - kTolerance))
      continue;
    double smooth = (1 / divisors[i] - 1 / factor) / (1 - 1 / factor);
    double context = wavelength(i) * (1 + smooth * (kHigh - 1));
    if (context < kMaxContext)
      candidates.push_back(
          llama3Scaling(factor, kHigh, std::max(1L, std::lround(context))));
  }
  for (const json& scaling : candidates) {
    bool fits = factor >= 1 && factor < 1e6;
    for (size_t i = 0; i < divisors.size(); ++i)
      fits = fits && std::abs(llama3Divisor(wavelength(i), scaling) -
                              divisors[i]) <= kTolerance * divisors[i];
    if (fits)
      return scaling;
  }
  return makeError(ErrorCode::ConfigUnsupported,
                   "tensor " + tensor.name +
                       " holds rotary divisors that are not llama3 scaling",
                   "import the Hugging Face folder of this model instead");
}

absl::Status addRope(const llmrt::WeightSource& weights,
                     const std::string& arch, json& config) {
  const GgufFile& file = *weights.gguf();
  std::string scaling = arch + ".rope.scaling.";
  LLMRT_ASSIGN_OR_RETURN(absl::string_view type,
                         file.readTextOr(scaling + "type", "none"));
  if (type != "none") {
    LLMRT_ASSIGN_OR_RETURN(double factor,
                           file.readNumberOr(scaling + "factor", 1));
    config["rope_scaling"] = {{"rope_type", std::string(type)},
                              {"factor", factor}};
  }
  const llmrt::SourceTensor* divisors = weights.find("rope_freqs.weight");
  if (divisors && type == "none") {
    double theta = config.value("rope_theta", 10000.0);
    LLMRT_ASSIGN_OR_RETURN(config["rope_scaling"],
                           readRopeFactors(*divisors, theta));
  }
  return absl::OkStatus();
}

/// Refuses what would change the model and has no field of its own.
absl::Status refuseUnsupported(const GgufFile& file, const std::string& arch,
                               const Family& family, const json& config) {
  auto refuse = [&](const std::string& key, int64_t value) {
    return makeError(ErrorCode::ConfigUnsupported,
                     absl::StrCat("key ", arch, ".", key, " is ", value),
                     "import another file of this model");
  };
  LLMRT_ASSIGN_OR_RETURN(int64_t experts,
                         file.readIntegerOr(arch + ".expert_count", 0));
  if (experts != 0)
    return refuse("expert_count", experts);
  int64_t hidden = config.value(family.field("hidden_size"), int64_t{0});
  int64_t heads = config.value(family.field("num_attention_heads"), int64_t{0});
  if (heads <= 0 || hidden % heads != 0)
    return absl::OkStatus(); // the family's reader says so
  int64_t width = config.value("head_dim", hidden / heads);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    LLMRT_ASSIGN_OR_RETURN(
        int64_t value, file.readIntegerOr(absl::StrCat(arch, ".", key), width));
    if (value != width)
      return refuse(key, value);
  }
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<ModelDescription>
describeGguf(const llmrt::WeightSource& weights) {
  const GgufFile& file = *weights.gguf();
  LLMRT_ASSIGN_OR_RETURN(absl::string_view archText,
                         file.readText("general.architecture"));
  std::string arch(archText);
  const Family* family = nullptr;
  std::string known;
  for (const Family* f : families()) {
    if (f->ggufArchitecture.empty())
      continue;
    known += (known.empty() ? "" : ", ") + f->ggufArchitecture;
    if (f->ggufArchitecture == arch)
      family = f;
  }
  if (!family)
    return makeError(
        ErrorCode::FamilyUnknown,
        "unknown general.architecture " + arch + " in " + weights.path(),
        "supported in GGUF: " + known + "; others as a Hugging Face folder");

  json config;
  std::map<std::string, std::string> shown;
  std::vector<std::string> given;
  for (const auto& [llamaField, key] : kKeys) {
    std::string field = family->field(llamaField), full = arch + "." + key;
    shown.emplace(field, full);
    if (!file.contains(full))
      continue;
    shown[field] = full;
    given.push_back(field);
    LLMRT_RETURN_IF_ERROR(addScalar(file, full, config[field]));
  }
  for (const char* token : {"bos", "eos"}) {
    std::string key = absl::StrCat("tokenizer.ggml.", token, "_token_id");
    if (file.contains(key))
      LLMRT_RETURN_IF_ERROR(
          addScalar(file, key, config[absl::StrCat(token, "_token_id")]));
  }
  const llmrt::SourceTensor* table = weights.find("token_embd.weight");
  if (!config.contains("vocab_size") && table && table->shape.size() == 2)
    config["vocab_size"] = table->shape[0];
  config["tie_word_embeddings"] = weights.find("output.weight") == nullptr;
  // llama.cpp's converter stores each weight as [out, in], and reorders the
  // query and key rows of its llama architecture for rotation of neighbouring
  // pairs.
  config["transposed_weights"] = false;
  config["rope_interleaved"] = arch == "llama";
  LLMRT_RETURN_IF_ERROR(addRope(weights, arch, config));
  LLMRT_RETURN_IF_ERROR(refuseUnsupported(file, arch, *family, config));

  json shownConfig = config; // in transformers' words but for the order of rows
  shownConfig.erase("transposed_weights");
  if (!config["rope_interleaved"].get<bool>())
    shownConfig.erase("rope_interleaved");
  std::string text = shownConfig.dump();
  ModelDescription description{
      family,
      ConfigReader(std::move(config), weights.path(), std::move(shown))};
  description.config = std::move(text);
  description.givenFields = std::move(given);
  description.hasTokenizer = file.contains("tokenizer.ggml.model");
  description.isIgnored = [](const std::string& name, const ModelConfig&) {
    return name == "rope_freqs.weight";
  };
  description.sourceNames = [family](const std::string& name) {
    return ggufTensorName(*family, name);
  };
  return description;
}

} // namespace llmc
