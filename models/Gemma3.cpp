// SPDX-License-Identifier: Apache-2.0
// Gemma 3 (text): Gemma 2 with a norm on each query and key head instead of
// soft-caps, one full layer after five with windows, and a rotary base for each
// kind. Of a model that sees images only the text part is imported. Source:
// Gemma 3 report, 2025.
#include "models/Family.h"

#include <cmath>

using mlir::Value;

namespace llmc {
namespace {

/// transformers 5 writes one object per kind of layer; before, rope_scaling was
/// of full layers alone.
void readRopes(ConfigReader& reader, ModelConfig& config) {
  requireOneRope(reader);
  double global = reader.numberOr("rope_theta", 1e6, 1, 1e15);
  double local = reader.numberOr("rope_local_base_freq", 1e4, 1, 1e15);
  bool isNew = reader.has("rope_parameters");
  ConfigReader parameters = reader.object("rope_parameters");
  ConfigReader full = isNew ? parameters.object("full_attention")
                            : reader.object("rope_scaling");
  ConfigReader sliding = parameters.object("sliding_attention");
  config.rope = readRope(full, global);
  config.localRope = readRope(sliding, local);
  for (ConfigReader* nested : {&parameters, &full, &sliding})
    reader.take(*nested);
}

void read(ConfigReader& reader, ModelConfig& config) {
  readDecoder(reader,
              {.isHeadTied = true,
               .activationField = "hidden_activation",
               .activation = "gelu_pytorch_tanh",
               .kvHeads = 4,
               .headDim = 256},
              config);
  reader.refuseIfTrue("attention_bias");
  readRopes(reader, config);
  config.attentionScale =
      1 / std::sqrt(reader.number("query_pre_attn_scalar", 1e-3, 1e6));
  config.attentionSoftCap =
      reader.numberOrNull("attn_logit_softcapping", 0, 1e-3, 1e6);
  config.finalSoftCap =
      reader.numberOrNull("final_logit_softcapping", 0, 1e-3, 1e6);
  int64_t window = reader.integer("sliding_window", 1, kMaxContext);
  const char* key = reader.has("_sliding_window_pattern")
                        ? "_sliding_window_pattern"
                        : "sliding_window_pattern";
  int64_t pattern = reader.integerOr(key, 6, 1, kMaxLayers);
  std::vector<bool> isSliding(config.layers);
  for (int64_t i = 0; i < config.layers; ++i)
    isSliding[i] = (i + 1) % pattern != 0;
  readWindows(reader, window, isSliding, config);
}

void build(ModelBuilder& m, const ModelConfig& c) {
  constexpr double kOffset = 1; // norm weights are stored less one
  int64_t width = c.heads * c.headDim;
  int64_t kvWidth = c.kvHeads * c.headDim;
  Value x = m.scale(m.embedding("model.embed_tokens"), std::sqrt(c.hidden));
  for (int64_t i = 0; i < c.layers; ++i) {
    int64_t window = c.windows[i];
    const RopeConfig& rope = window ? c.localRope : c.rope;
    auto layer = [&](Value x) {
      Value h = m.rmsNorm("input_layernorm", x, kOffset);
      Value q = m.linear("self_attn.q_proj", h, {width, Split::QueryHeads});
      Value k =
          m.linear("self_attn.k_proj", h, {kvWidth, Split::KeyValueHeads});
      Value v =
          m.linear("self_attn.v_proj", h, {kvWidth, Split::KeyValueHeads});
      q = m.headNorm("self_attn.q_norm", q, kOffset);
      k = m.headNorm("self_attn.k_norm", k, kOffset);
      q = m.rope(q, rope);
      k = m.rope(k, rope);
      Value a = m.attention(q, k, v, window);
      h = m.linear("self_attn.o_proj", a, {c.hidden, Split::HeadInputs});
      x = m.add(x, m.rmsNorm("post_attention_layernorm", h, kOffset));
      h = m.rmsNorm("pre_feedforward_layernorm", x, kOffset);
      Value gate =
          m.linear("mlp.gate_proj", h, {c.intermediate, Split::Columns});
      Value up = m.linear("mlp.up_proj", h, {c.intermediate, Split::Columns});
      Value y = m.gatedActivation(gate, up);
      h = m.linear("mlp.down_proj", y, {c.hidden, Split::Rows});
      return m.add(x, m.rmsNorm("post_feedforward_layernorm", h, kOffset));
    };
    x = m.block(window ? "layer_sliding" : "layer_full", i, "model.layers.", x,
                layer);
  }
  x = m.rmsNorm("model.norm", m.outputRows(x), kOffset);
  m.head("lm_head", "model.embed_tokens", x);
}

} // namespace

// Gemma 3 1B.
extern const Family kGemma3Family;
const Family kGemma3Family = {
    .name = "gemma3",
    .modelTypes = {"gemma3_text", "gemma3"},
    .architectures = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"},
    .ggufArchitecture = "",
    .defaults = R"({"vocab_size": 262144, "hidden_size": 1152, "head_dim": 256,
      "intermediate_size": 6912, "num_hidden_layers": 26,
      "num_attention_heads": 4, "num_key_value_heads": 1,
      "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
      "query_pre_attn_scalar": 256, "sliding_window": 512,
      "bos_token_id": 2, "eos_token_id": [1, 106]})",
    .read = read,
    .build = build,
    .textDefaults = R"({"vocab_size": 262208, "hidden_size": 2304,
      "intermediate_size": 9216, "num_hidden_layers": 26,
      "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
      "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
      "query_pre_attn_scalar": 256, "sliding_window": 4096})",
    .prefixes = {{"model.", "language_model.model."},
                 {"model.", "model.language_model."},
                 {"lm_head", "language_model.lm_head"}},
};

} // namespace llmc
