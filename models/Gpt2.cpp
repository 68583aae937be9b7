// SPDX-License-Identifier: Apache-2.0
// GPT-2: learned positions, layer norm, one fused weight for queries, keys and
// values, weights stored as [in, out]. Two fields that Hugging Face's GPT-2
// lacks describe its re-implementations (nanoGPT, minGPT):
// "transposed_weights": false and "attention_bias": false. Source: Radford et
// al. 2019.
#include "models/Family.h"

#include <cmath>

using mlir::Value;

namespace llmc {
namespace {

void read(ConfigReader& reader, ModelConfig& config) {
  config.vocab = reader.integer("vocab_size", 1, kMaxVocab);
  config.hidden = reader.integer("n_embd", 1, kMaxWidth);
  config.layers = reader.integer("n_layer", 1, kMaxLayers);
  config.heads = reader.integer("n_head", 1, kMaxWidth);
  config.kvHeads = config.heads;
  config.intermediate =
      reader.integerOr("n_inner", 4 * config.hidden, 1, kMaxWidth * 16);
  config.context = reader.integer("n_positions", 1, kMaxContext);
  config.normEps = reader.number("layer_norm_epsilon", 1e-12, 1);
  config.initStd = reader.numberOr("initializer_range", 0.02, 1e-6, 10);
  config.isHeadTied = reader.booleanOr("tie_word_embeddings", true);
  config.isTransposed = reader.booleanOr("transposed_weights", true);
  config.hasAttentionBias = reader.booleanOr("attention_bias", true);
  config.activation = readActivation(reader, "activation_function", "gelu_new");
  readSpecialTokens(reader, config);
  reader.require(config.hidden % config.heads == 0,
                 reader.shown("n_embd") + " " + std::to_string(config.hidden) +
                     " is not a multiple of " + reader.shown("n_head") + " " +
                     std::to_string(config.heads));
  config.headDim = config.hidden / config.heads;
  config.attentionScale = 1 / std::sqrt(static_cast<double>(config.headDim));
  if (!reader.booleanOr("scale_attn_weights", true))
    reader.refuse("scale_attn_weights", "true");
  reader.refuseIfTrue("scale_attn_by_inverse_layer_idx");
  reader.refuseIfTrue("add_cross_attention");
  if (reader.has("quantization_config"))
    reader.refuse("quantization_config",
                  "unquantised safetensors, or a GGUF file");
}

void build(ModelBuilder& m, const ModelConfig& c) {
  LinearOptions columns = {
      .split = Split::Columns, .hasBias = true, .isTransposed = c.isTransposed};
  // Projections onto the residual start smaller, by the number of them.
  LinearOptions residual = {.outputs = c.hidden,
                            .hasBias = true,
                            .isTransposed = c.isTransposed,
                            .initStd = c.initStd / std::sqrt(2.0 * c.layers)};
  auto layer = [&](Value x) {
    Value h = m.layerNorm("ln_1", x);
    auto part = [&](const char* name, Split split, int64_t index) {
      LinearOptions options = {.outputs = c.hidden,
                               .split = split,
                               .hasBias = c.hasAttentionBias,
                               .isTransposed = c.isTransposed};
      options.fused = {"attn.c_attn", index * c.hidden};
      return m.linear(name, h, options);
    };
    Value q = part("attn.q_proj", Split::QueryHeads, 0);
    Value k = part("attn.k_proj", Split::KeyValueHeads, 1);
    Value v = part("attn.v_proj", Split::KeyValueHeads, 2);
    Value a = m.attention(q, k, v, /*window=*/0);
    residual.split = Split::HeadInputs;
    x = m.add(x, m.linear("attn.c_proj", a, residual));
    h = m.layerNorm("ln_2", x);
    columns.outputs = c.intermediate;
    Value y = m.activation(m.linear("mlp.c_fc", h, columns));
    residual.split = Split::Rows;
    return m.add(x, m.linear("mlp.c_proj", y, residual));
  };
  Value tokens = m.embedding("transformer.wte");
  Value x = m.add(tokens, m.positionEmbedding("transformer.wpe"));
  for (int64_t i = 0; i < c.layers; ++i)
    x = m.block("layer", i, "transformer.h.", x, layer);
  x = m.layerNorm("transformer.ln_f", m.outputRows(x));
  m.head("lm_head", "transformer.wte", x);
}

} // namespace

// GPT-2 124M.
extern const Family kGpt2Family;
const Family kGpt2Family = {
    .name = "gpt2",
    .modelTypes = {"gpt2"},
    .architectures = {"GPT2LMHeadModel"},
    .ggufArchitecture = "gpt2",
    .defaults = R"({"vocab_size": 50257, "n_embd": 768, "n_layer": 12,
      "n_head": 12, "n_positions": 1024, "layer_norm_epsilon": 1e-5,
      "bos_token_id": 50256, "eos_token_id": 50256})",
    .read = read,
    .build = build,
    // The published files have no prefix; transformers writes one.
    .prefixes = {{"transformer.", ""}},
    .fields = {{"hidden_size", "n_embd"},
               {"num_hidden_layers", "n_layer"},
               {"num_attention_heads", "n_head"},
               {"intermediate_size", "n_inner"},
               {"max_position_embeddings", "n_positions"},
               {"rms_norm_eps", "layer_norm_epsilon"}},
    .ggufTensors = {{"transformer.wte", "token_embd"},
                    {"transformer.wpe", "position_embd"},
                    {"transformer.ln_f", "output_norm"},
                    {"ln_1", "attn_norm"},
                    {"attn.c_attn", "attn_qkv"},
                    {"attn.c_proj", "attn_output"},
                    {"ln_2", "ffn_norm"},
                    {"mlp.c_fc", "ffn_up"},
                    {"mlp.c_proj", "ffn_down"}},
};

} // namespace llmc
