// SPDX-License-Identifier: Apache-2.0
// Gemma 2: norms around attention and feed-forward, soft-capped scores and
// logits, windows in every second layer, a scaled embedding. Source: Gemma 2
// report, 2024.
#include "models/Family.h"

#include <cmath>

using mlir::Value;

namespace llmc {
namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  readDecoder(reader,
              {.isHeadTied = true,
               .activationField = "hidden_activation",
               .activation = "gelu_pytorch_tanh",
               .kvHeads = 4,
               .headDim = 256},
              config);
  reader.refuseIfTrue("attention_bias");
  config.attentionScale =
      1 / std::sqrt(reader.number("query_pre_attn_scalar", 1e-3, 1e6));
  config.attentionSoftCap =
      reader.numberOrNull("attn_logit_softcapping", 50, 1e-3, 1e6);
  config.finalSoftCap =
      reader.numberOrNull("final_logit_softcapping", 30, 1e-3, 1e6);
  int64_t window = reader.integer("sliding_window", 1, kMaxContext);
  std::vector<bool> isSliding(config.layers);
  for (int64_t i = 0; i < config.layers; i += 2)
    isSliding[i] = true;
  readWindows(reader, window, isSliding, config);
}

void build(ModelBuilder& m, const ModelConfig& c) {
  constexpr double kOffset = 1; // norm weights are stored less one
  int64_t width = c.heads * c.headDim;
  int64_t kvWidth = c.kvHeads * c.headDim;
  Value x = m.scale(m.embedding("model.embed_tokens"), std::sqrt(c.hidden));
  for (int64_t i = 0; i < c.layers; ++i) {
    int64_t window = c.windows[i];
    auto layer = [&](Value x) {
      Value h = m.rmsNorm("input_layernorm", x, kOffset);
      Value q = m.linear("self_attn.q_proj", h, {width, Split::QueryHeads});
      Value k =
          m.linear("self_attn.k_proj", h, {kvWidth, Split::KeyValueHeads});
      Value v =
          m.linear("self_attn.v_proj", h, {kvWidth, Split::KeyValueHeads});
      q = m.rope(q, c.rope);
      k = m.rope(k, c.rope);
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

// Gemma 2 2B.
extern const Family kGemma2Family;
const Family kGemma2Family = {
    .name = "gemma2",
    .modelTypes = {"gemma2"},
    .architectures = {"Gemma2ForCausalLM"},
    .ggufArchitecture = "",
    .defaults = R"({"vocab_size": 256000, "hidden_size": 2304, "head_dim": 256,
      "intermediate_size": 9216, "num_hidden_layers": 26,
      "num_attention_heads": 8, "num_key_value_heads": 4,
      "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
      "query_pre_attn_scalar": 256, "sliding_window": 4096,
      "bos_token_id": 2, "eos_token_id": 1})",
    .read = read,
    .build = build,
};

} // namespace llmc
