// SPDX-License-Identifier: Apache-2.0
// Mistral 7B and what has its shape: Llama with a sliding window in every
// layer. Source: Jiang et al. 2023.
#include "models/Family.h"

using mlir::Value;

namespace llmc {
namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  readDecoder(reader, {.kvHeads = 8}, config);
  reader.refuseIfTrue("attention_bias");
  int64_t window = reader.integerOr("sliding_window", 0, 1, kMaxContext);
  readWindows(reader, window, std::vector<bool>(config.layers, true), config);
}

void build(ModelBuilder& m, const ModelConfig& c) {
  int64_t width = c.heads * c.headDim;
  int64_t kvWidth = c.kvHeads * c.headDim;
  Value x = m.embedding("model.embed_tokens");
  for (int64_t i = 0; i < c.layers; ++i) {
    int64_t window = c.windows[i];
    auto layer = [&](Value x) {
      Value h = m.rmsNorm("input_layernorm", x);
      Value q = m.linear("self_attn.q_proj", h, {width, Split::QueryHeads});
      Value k =
          m.linear("self_attn.k_proj", h, {kvWidth, Split::KeyValueHeads});
      Value v =
          m.linear("self_attn.v_proj", h, {kvWidth, Split::KeyValueHeads});
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

// Mistral 7B v0.1.
extern const Family kMistralFamily;
const Family kMistralFamily = {
    .name = "mistral",
    .modelTypes = {"mistral"},
    .architectures = {"MistralForCausalLM"},
    .ggufArchitecture = "", // such files say llama, and keep no window
    .defaults = R"({"vocab_size": 32000, "hidden_size": 4096,
      "intermediate_size": 14336, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8,
      "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
      "sliding_window": 4096, "bos_token_id": 1, "eos_token_id": 2})",
    .read = read,
    .build = build,
};

} // namespace llmc
