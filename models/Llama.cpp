// SPDX-License-Identifier: Apache-2.0
// Llama 2 and 3.x, and what has their shape (SmolLM2, TinyLlama).
// Source: Touvron et al. 2023; Llama 3 report 2024.
#include "models/Family.h"

using mlir::Value;

namespace llmc {
namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  readDecoder(reader, {}, config);
  reader.refuseIfTrue("attention_bias");
}

void build(ModelBuilder& m, const ModelConfig& c) {
  int64_t width = c.heads * c.headDim;
  int64_t kvWidth = c.kvHeads * c.headDim;
  auto layer = [&](Value x) {
    Value h = m.rmsNorm("input_layernorm", x);
    Value q = m.linear("self_attn.q_proj", h, {width, Split::QueryHeads});
    Value k = m.linear("self_attn.k_proj", h, {kvWidth, Split::KeyValueHeads});
    Value v = m.linear("self_attn.v_proj", h, {kvWidth, Split::KeyValueHeads});
    q = m.rope(q, c.rope);
    k = m.rope(k, c.rope);
    Value a = m.attention(q, k, v, 0);
    x = m.add(x,
              m.linear("self_attn.o_proj", a, {c.hidden, Split::HeadInputs}));
    h = m.rmsNorm("post_attention_layernorm", x);
    Value gate = m.linear("mlp.gate_proj", h, {c.intermediate, Split::Columns});
    Value up = m.linear("mlp.up_proj", h, {c.intermediate, Split::Columns});
    Value y = m.gatedActivation(gate, up);
    return m.add(x, m.linear("mlp.down_proj", y, {c.hidden, Split::Rows}));
  };
  Value x = m.embedding("model.embed_tokens");
  for (int64_t i = 0; i < c.layers; ++i)
    x = m.block("layer", i, "model.layers.", x, layer);
  x = m.rmsNorm("model.norm", m.outputRows(x));
  m.head("lm_head", "model.embed_tokens", x);
}

} // namespace

// Llama 2 7B.
extern const Family kLlamaFamily;
const Family kLlamaFamily = {
    .name = "llama",
    .modelTypes = {"llama"},
    .architectures = {"LlamaForCausalLM"},
    .ggufArchitecture = "llama",
    .defaults = R"({"vocab_size": 32000, "hidden_size": 4096,
      "intermediate_size": 11008, "num_hidden_layers": 32,
      "num_attention_heads": 32, "max_position_embeddings": 4096,
      "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2})",
    .read = read,
    .build = build,
};

} // namespace llmc
