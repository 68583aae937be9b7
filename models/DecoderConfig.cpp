// SPDX-License-Identifier: Apache-2.0
// Fields that all rotary decoders share: sizes, rotary embedding, activation,
// windows.
#include "models/ConfigReader.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cmath>

namespace llmc {

Activation readActivation(ConfigReader& reader, const std::string& field,
                          const std::string& value) {
  std::string name = reader.textOr(field, value);
  if (name == "silu" || name == "swish")
    return Activation::Silu;
  if (name == "gelu")
    return Activation::Gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast")
    return Activation::GeluTanh;
  if (name == "relu")
    return Activation::Relu;
  if (reader.status().ok())
    reader.refuse(field, "silu, gelu, gelu_new, gelu_pytorch_tanh, relu");
  return Activation::Silu;
}

RopeConfig readRope(ConfigReader& parameters, double theta) {
  RopeConfig rope;
  rope.theta = parameters.numberOr("rope_theta", theta, 1, 1e15);
  // Older files say "type".
  std::string field = parameters.has("rope_type") ? "rope_type" : "type";
  std::string type = parameters.textOr(field, "default");
  if (type == "default")
    return rope;
  if (type != "linear" && type != "llama3") {
    if (parameters.status().ok())
      parameters.refuse(field, "default, linear, llama3");
    return rope;
  }
  rope.factor = parameters.number("factor", 1, 1e6);
  rope.scaling = RopeScaling::Linear;
  if (type == "linear")
    return rope;
  rope.scaling = RopeScaling::Llama3;
  rope.lowFreqFactor = parameters.number("low_freq_factor", 1e-3, 1e6);
  rope.highFreqFactor = parameters.number("high_freq_factor", 1e-3, 1e6);
  rope.originalContext =
      parameters.integer("original_max_position_embeddings", 1, kMaxContext);
  parameters.require(!parameters.status().ok() ||
                         rope.lowFreqFactor < rope.highFreqFactor,
                     "low_freq_factor is not below high_freq_factor");
  return rope;
}

void readSpecialTokens(ConfigReader& reader, ModelConfig& config) {
  // -1 is "none" in some published files.
  int64_t bos = reader.integerOr("bos_token_id", -1, -1, kMaxVocab);
  if (bos >= 0)
    config.bosToken = bos;
  for (int64_t eos : reader.integersOrNone("eos_token_id", -1, kMaxVocab))
    if (eos >= 0)
      config.eosTokens.push_back(eos);
}

void requireOneRope(ConfigReader& reader) {
  if (!reader.has("rope_parameters") || !reader.has("rope_scaling"))
    return;
  nlohmann::json parameters = reader.fields()["rope_parameters"];
  nlohmann::json scaling = reader.fields()["rope_scaling"];
  for (nlohmann::json* object : {&parameters, &scaling})
    if (object->is_object())
      object->erase("rope_theta");
  reader.require(parameters == scaling,
                 "rope_parameters and rope_scaling are both given and differ");
}

void readDecoder(ConfigReader& reader, const DecoderDefaults& defaults,
                 ModelConfig& config) {
  config.vocab = reader.integer("vocab_size", 1, kMaxVocab);
  config.hidden = reader.integer("hidden_size", 1, kMaxWidth);
  config.layers = reader.integer("num_hidden_layers", 1, kMaxLayers);
  config.heads = reader.integer("num_attention_heads", 1, kMaxWidth);
  config.kvHeads = reader.integerOr(
      "num_key_value_heads", defaults.kvHeads ? defaults.kvHeads : config.heads,
      1, kMaxWidth);
  config.intermediate = reader.integer("intermediate_size", 1, kMaxWidth * 16);
  config.context = reader.integer("max_position_embeddings", 1, kMaxContext);
  config.normEps = reader.number("rms_norm_eps", 1e-12, 1);
  config.initStd = reader.numberOr("initializer_range", 0.02, 1e-6, 10);
  config.isHeadTied =
      reader.booleanOr("tie_word_embeddings", defaults.isHeadTied);
  config.activation =
      readActivation(reader, defaults.activationField, defaults.activation);
  readSpecialTokens(reader, config);

  auto multiple = [&](const char* field, int64_t value, const char* of,
                      int64_t unit) {
    reader.require(value % unit == 0,
                   absl::StrCat(reader.shown(field), " ", value,
                                " is not a multiple of ", reader.shown(of), " ",
                                unit));
  };
  multiple("num_attention_heads", config.heads, "num_key_value_heads",
           config.kvHeads);
  if (!reader.has("head_dim") && defaults.headDim == 0)
    multiple("hidden_size", config.hidden, "num_attention_heads", config.heads);
  int64_t headDim =
      defaults.headDim ? defaults.headDim : config.hidden / config.heads;
  config.headDim = reader.integerOr("head_dim", headDim, 1, 1 << 14);
  reader.require(config.headDim % 2 == 0,
                 "rotary heads need an even width, head_dim is " +
                     std::to_string(config.headDim));
  reader.require(config.heads * config.headDim <= 16 * kMaxWidth,
                 "num_attention_heads x head_dim is absurdly wide");
  config.attentionScale = 1 / std::sqrt(static_cast<double>(config.headDim));
  config.windows.assign(config.layers, 0);

  if (reader.has("partial_rotary_factor") &&
      reader.numberOr("partial_rotary_factor", 1, 0, 1) != 1)
    reader.refuse("partial_rotary_factor", "1");
  if (reader.has("quantization_config"))
    reader.refuse("quantization_config",
                  "unquantised safetensors, or a GGUF file");
  reader.refuseIfTrue("mlp_bias");
  reader.refuseIfTrue("use_bidirectional_attention");
  // transformers 5 moved rope_theta and rope_scaling into rope_parameters.
  requireOneRope(reader);
  double theta = reader.numberOr("rope_theta", defaults.ropeTheta, 1, 1e15);
  ConfigReader rope = reader.object(
      reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
  config.rope = config.localRope = readRope(rope, theta);
  reader.take(rope);
  config.rope.isInterleaved = reader.booleanOr("rope_interleaved", false);
}

void readWindows(ConfigReader& reader, int64_t window,
                 const std::vector<bool>& isSliding, ModelConfig& config) {
  std::vector<std::string> types = reader.textsOrNone("layer_types");
  if (!reader.status().ok())
    return;
  reader.require(
      types.empty() || static_cast<int64_t>(types.size()) == config.layers,
      "layer_types has " + std::to_string(types.size()) +
          " entries, num_hidden_layers is " + std::to_string(config.layers));
  if (!reader.status().ok())
    return;
  for (int64_t i = 0; i < config.layers; ++i) {
    bool slides = isSliding[i];
    if (!types.empty()) {
      if (types[i] != "sliding_attention" && types[i] != "full_attention")
        reader.refuse("layer_types", "sliding_attention, full_attention");
      slides = types[i] == "sliding_attention";
    }
    config.windows[i] = slides ? window : 0;
  }
  bool needsWindow = !types.empty() && std::count(types.begin(), types.end(),
                                                  "sliding_attention");
  reader.require(
      !needsWindow || window > 0,
      "layer_types has sliding_attention, sliding_window is missing");
}

} // namespace llmc
