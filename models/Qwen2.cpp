// SPDX-License-Identifier: Apache-2.0
// Qwen2 and 2.5: Llama with a bias on queries, keys and values; upper layers
// may have a sliding window. Source: Yang et al. 2024.
#include "models/Family.h"

using mlir::Value;

namespace llmc {
namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  readDecoder(reader, {.kvHeads = 32}, config);
  int64_t window = 0;
  std::vector<bool> isSliding(config.layers, false);
  if (reader.booleanOr("use_sliding_window", false)) {
    window = reader.integer("sliding_window", 1, kMaxContext);
    int64_t first = reader.integerOr("max_window_layers", 28, 0, kMaxLayers);
    for (int64_t i = first; i < config.layers; ++i)
      isSliding[i] = true;
  }
  readWindows(reader, window, isSliding, config);
}

void build(ModelBuilder& m, const ModelConfig& c) {
  int64_t width = c.heads * c.headDim;
  int64_t kvWidth = c.kvHeads * c.headDim;
  Value x = m.embedding("model.embed_tokens");
  for (int64_t i = 0; i < c.layers; ++i) {
    int64_t window = c.windows[i];
    auto layer = [&](Value x) {
      Value h = m.rmsNorm("input_layernorm", x);
      Value q =
          m.linear("self_attn.q_proj", h, {width, Split::QueryHeads, true});
      Value k = m.linear("self_attn.k_proj", h,
                         {kvWidth, Split::KeyValueHeads, true});
      Value v = m.linear("self_attn.v_proj", h,
                         {kvWidth, Split::KeyValueHeads, true});
      q = m.rope(q, c.rope);
      k = m.rope(k, c.rope);
      Value a = m.attention(q, k, v, window);
      x = m.add(x,
                m.linear("self_attn.o_proj", a, {c.hidden, Split::HeadInputs}));
      h = m.rmsNorm("post_attention_layernorm", x);
      Value gate =
          m.linear("mlp.gate_proj", h, {c.intermediate, Split::Columns});
      Value up = m.linear("mlp.up_proj", h, {c.intermediate, Split::Columns});
      Value y = m.gatedActivation(gate, up);
      return m.add(x, m.linear("mlp.down_proj", y, {c.hidden, Split::Rows}));
    };
    x = m.block(window ? "layer_sliding" : "layer", i, "model.layers.", x,
                layer);
  }
  x = m.rmsNorm("model.norm", m.outputRows(x));
  m.head("lm_head", "model.embed_tokens", x);
}

} // namespace

// Qwen2.5 0.5B.
extern const Family kQwen2Family;
const Family kQwen2Family = {
    .name = "qwen2",
    .modelTypes = {"qwen2"},
    .architectures = {"Qwen2ForCausalLM"},
    .ggufArchitecture = "qwen2",
    .defaults = R"({"vocab_size": 151936, "hidden_size": 896,
      "intermediate_size": 4864, "num_hidden_layers": 24,
      "num_attention_heads": 14, "num_key_value_heads": 2,
      "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
      "rope_theta": 1000000.0, "tie_word_embeddings": true,
      "bos_token_id": 151643, "eos_token_id": 151645})",
    .read = read,
    .build = build,
};

} // namespace llmc
