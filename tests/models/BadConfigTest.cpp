// SPDX-License-Identifier: Apache-2.0
// A good fixture with one thing wrong: each gives one coded error that names
// it.
#include "tests/models/ModelText.h"

#include "nlohmann/json.hpp"

#include "gmock/gmock.h"
#include <iterator>
#include <random>

namespace llmc {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string importError(const std::string& folder) {
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, folder, "");
  return module.ok() ? "imported" : std::string(module.status().message());
}

struct BadConfig {
  const char* fixture;
  const char* patch; // a JSON merge patch: null removes
  const char* code;
  const char* names;
};

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, IsRefused) {
  const BadConfig& bad = GetParam();
  json config =
      json::parse(readText(fixturePath(bad.fixture) + "/config.json"));
  config.merge_patch(json::parse(bad.patch));
  TemporaryFolder folder;
  folder.write("config.json", config.dump());
  for (const auto& entry :
       std::filesystem::directory_iterator(fixturePath(bad.fixture)))
    if (entry.path().filename().string().starts_with("model"))
      folder.link(std::filesystem::absolute(entry.path()),
                  entry.path().filename());
  std::string error = importError(folder.path());
  EXPECT_THAT(error, HasSubstr(bad.code));
  EXPECT_THAT(error, HasSubstr(bad.names));
}

INSTANTIATE_TEST_SUITE_P(
    Missing, BadConfigTest,
    testing::Values(
        BadConfig{"llama2", R"({"model_type": null})", "E0203", "model_type"},
        BadConfig{"llama2", R"({"vocab_size": null})", "E0203", "vocab_size"},
        BadConfig{"llama2", R"({"hidden_size": null})", "E0203", "hidden_size"},
        BadConfig{"llama2", R"({"intermediate_size": null})", "E0203",
                  "intermediate_size"},
        BadConfig{"llama2", R"({"num_hidden_layers": null})", "E0203",
                  "num_hidden_layers"},
        BadConfig{"llama2", R"({"num_attention_heads": null})", "E0203",
                  "num_attention_heads"},
        BadConfig{"llama2", R"({"max_position_embeddings": null})", "E0203",
                  "max_position_embeddings"},
        BadConfig{"llama2", R"({"rms_norm_eps": null})", "E0203",
                  "rms_norm_eps"},
        BadConfig{"llama3", R"({"rope_scaling": {"factor": null}})", "E0203",
                  "rope_scaling.factor"},
        BadConfig{"gemma2", R"({"query_pre_attn_scalar": null})", "E0203",
                  "query_pre_attn_scalar"},
        BadConfig{"gpt2", R"({"n_embd": null})", "E0203", "n_embd"}));

INSTANTIATE_TEST_SUITE_P(
    Absurd, BadConfigTest,
    testing::Values(
        BadConfig{"llama2", R"({"hidden_size": "40"})", "E0204", "hidden_size"},
        BadConfig{"llama2", R"({"hidden_size": 40.5})", "E0204", "hidden_size"},
        BadConfig{"llama2", R"({"hidden_size": 0})", "E0204", "hidden_size"},
        BadConfig{"llama2", R"({"hidden_size": -40})", "E0204", "hidden_size"},
        BadConfig{"llama2", R"({"hidden_size": 9223372036854775807})", "E0204",
                  "hidden_size"},
        BadConfig{"llama2", R"({"hidden_size": 18446744073709551615})", "E0204",
                  "hidden_size"},
        BadConfig{"llama2", R"({"num_hidden_layers": 1e9})", "E0204",
                  "num_hidden_layers"},
        BadConfig{"llama2", R"({"num_hidden_layers": 1000000000})", "E0204",
                  "num_hidden_layers"},
        BadConfig{"llama2", R"({"rms_norm_eps": -1e-5})", "E0204",
                  "rms_norm_eps"},
        BadConfig{"llama2", R"({"rms_norm_eps": true})", "E0204",
                  "rms_norm_eps"},
        BadConfig{"llama3", R"({"rope_theta": 0})", "E0204", "rope_theta"},
        BadConfig{"llama3", R"({"rope_scaling": 8})", "E0204", "rope_scaling"},
        BadConfig{"llama3", R"({"tie_word_embeddings": "yes"})", "E0204",
                  "tie_word_embeddings"},
        BadConfig{"llama3", R"({"eos_token_id": ["a"]})", "E0204",
                  "eos_token_id"},
        BadConfig{"llama2", R"({"architectures": "LlamaForCausalLM"})", "E0204",
                  "architectures"},
        BadConfig{"mistral", R"({"sliding_window": 0})", "E0204",
                  "sliding_window"}));

INSTANTIATE_TEST_SUITE_P(
    Contradictory, BadConfigTest,
    testing::Values(
        BadConfig{"llama2", R"({"num_attention_heads": 7})", "E0205",
                  "num_attention_heads"},
        BadConfig{"llama3", R"({"num_key_value_heads": 4})", "E0205",
                  "num_key_value_heads"},
        BadConfig{"llama3", R"({"head_dim": 7})", "E0205", "head_dim"},
        BadConfig{"llama3", R"({"rope_scaling": {"low_freq_factor": 4}})",
                  "E0205", "low_freq_factor"},
        BadConfig{"qwen3", R"({"layer_types": ["full_attention"]})", "E0205",
                  "layer_types"},
        BadConfig{"qwen3",
                  R"({"layer_types": ["full_attention", "full_attention",
                                      "sliding_attention"]})",
                  "E0205", "sliding_window"},
        BadConfig{"gpt2", R"({"n_head": 5})", "E0205", "n_head"},
        // The weights say otherwise.
        BadConfig{"llama2", R"({"hidden_size": 80})", "E0208",
                  "[127, 40], parameter model.embed_tokens.weight needs "
                  "[127, 80]"},
        BadConfig{"llama3", R"({"head_dim": 16})", "E0208", "q_proj"},
        BadConfig{"llama3", R"({"num_key_value_heads": 6})", "E0208", "k_proj"},
        BadConfig{"gpt2", R"({"transposed_weights": false})", "E0208",
                  "c_attn"},
        BadConfig{"gpt2", R"({"n_inner": 37})", "E0208", "mlp.c_fc"},
        BadConfig{"gpt2", R"({"attention_bias": false})", "E0209",
                  "c_attn.bias"},
        BadConfig{"llama2", R"({"num_hidden_layers": 2})", "E0209",
                  "model.layers.2."},
        BadConfig{"llama2", R"({"num_hidden_layers": 4})", "E0306",
                  "model.layers.3."},
        BadConfig{"llama3", R"({"tie_word_embeddings": false})", "E0306",
                  "lm_head.weight"}));

INSTANTIATE_TEST_SUITE_P(
    Unsupported, BadConfigTest,
    testing::Values(
        BadConfig{"llama2", R"({"model_type": "bert"})", "E0207", "bert"},
        BadConfig{"llama2",
                  R"({"architectures": ["LlamaForTokenClassification"]})",
                  "E0206", "architectures"},
        BadConfig{"llama2", R"({"hidden_act": "quick_gelu"})", "E0206",
                  "hidden_act"},
        BadConfig{"llama2", R"({"attention_bias": true})", "E0206",
                  "attention_bias"},
        BadConfig{"llama2", R"({"mlp_bias": true})", "E0206", "mlp_bias"},
        BadConfig{"llama2", R"({"tie_word_embeddings": true})", "E0205",
                  "lm_head.weight"},
        BadConfig{"llama2",
                  R"({"rope_parameters": {"rope_type": "default"},
                  "rope_scaling": {"rope_type": "linear", "factor": 2}})",
                  "E0205", "rope_parameters and rope_scaling"},
        BadConfig{"llama2", R"({"partial_rotary_factor": 0.5})", "E0206",
                  "partial_rotary_factor"},
        BadConfig{"llama2",
                  R"({"rope_scaling": {"type": "yarn", "factor": 4}})", "E0206",
                  "rope_scaling.type"},
        BadConfig{"llama2", R"({"quantization_config": {"bits": 4}})", "E0206",
                  "quantization_config"},
        BadConfig{"qwen3", R"({"layer_types": ["full_attention",
                  "full_attention", "linear_attention"]})",
                  "E0206", "layer_types"},
        BadConfig{"gpt2", R"({"scale_attn_by_inverse_layer_idx": true})",
                  "E0206", "scale_attn_by_inverse_layer_idx"},
        BadConfig{"gemma3", R"({"use_bidirectional_attention": true})", "E0206",
                  "use_bidirectional_attention"}));

TEST(BadConfigFileTest, NotJson) {
  TemporaryFolder folder;
  folder.link(
      std::filesystem::absolute(fixturePath("llama2") + "/model.safetensors"),
      "model.safetensors");
  EXPECT_THAT(importError(folder.path()), HasSubstr("LLMC-E0103"));
  std::string good = readText(fixturePath("llama2") + "/config.json");
  for (const std::string& text :
       {std::string(), good.substr(0, good.size() / 2), std::string("[1, 2]"),
        std::string("\xff\xfe"), std::string(1000000, '['),
        "{\"model_type\": " + std::string(100, '[') + std::string(100, ']') +
            "}"}) {
    folder.write("config.json", text);
    EXPECT_THAT(importError(folder.path()), HasSubstr("LLMC-E0202"));
  }
}

/// Whatever a config says, the answer is a model or a coded error: no crash,
/// and no module that its verifier refuses.
TEST(BadConfigFileTest, RandomValues) {
  constexpr int kRoundsPerFixture = 60;
  const json values[] = {0,       1,         2,
                         3,       7,         -1,
                         1e300,   0.5,       64,
                         1e9,     true,      false,
                         "silu",  "",        json::array(),
                         1 << 20, {},        1000,
                         16,      "llama3",  json::object(),
                         {1, 2},  INT64_MAX, UINT64_MAX};
  std::minstd_rand random(1);
  for (const char* fixture :
       {"llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"}) {
    json good = json::parse(readText(fixturePath(fixture) + "/config.json"));
    TemporaryFolder folder;
    for (const auto& entry :
         std::filesystem::directory_iterator(fixturePath(fixture)))
      if (entry.path().filename().string().starts_with("model"))
        folder.link(entry.path(), entry.path().filename());
    for (int round = 0; round < kRoundsPerFixture; ++round) {
      json config = good;
      for (int change = 0; change < 1 + round % 3; ++change) {
        auto field = config.begin();
        std::advance(field, random() % config.size());
        field.value() = values[random() % std::size(values)];
      }
      folder.write("config.json", config.dump());
      std::string error = importError(folder.path());
      EXPECT_TRUE(error == "imported" || error.starts_with("LLMC-E"))
          << error << "\n"
          << config.dump();
    }
  }
}

TEST(BadConfigFileTest, WrongPlaces) {
  EXPECT_THAT(importError("/nonexistent"), HasSubstr("LLMC-E0"));
  EXPECT_THAT(importError(fixturePath("llama2") + "/model.safetensors"),
              HasSubstr("LLMC-E0201"));
}

/// GGUF metadata is small, so a byte of it can be changed by hand.
TEST(BadGgufTest, NamesItsOwnKeys) {
  std::string good = readText(fixturePath("llama-f32-gguf") + "/model.gguf");
  TemporaryFolder folder;
  auto refuses = [&](const std::string& from, const std::string& to,
                     const char* code, const char* names) {
    std::string bad = good;
    size_t at = bad.find(from);
    ASSERT_NE(at, std::string::npos);
    ASSERT_EQ(from.size(), to.size());
    bad.replace(at, from.size(), to);
    folder.write("model.gguf", bad);
    std::string error = importError(folder.path() + "/model.gguf");
    EXPECT_THAT(error, HasSubstr(code));
    EXPECT_THAT(error, HasSubstr(names));
  };
  refuses("llama.block_count", "llama.block_coun_", "E0203",
          "llama.block_count");
  refuses("general.architecture", "general.architectur_", "E0404",
          "general.architecture");
  auto value = [](char byte) { return std::string("\4\0\0\0", 4) + byte; };
  refuses("attention.head_count" + value(5), "attention.head_count" + value(7),
          "E0205", "attention.head_count 7");
  refuses("llama.block_count" + value(2), "llama.block_count" + value(0),
          "E0204", "llama.block_count");
  refuses("llama.rope.dimension_count" + value(8),
          "llama.rope.dimension_count" + value(4), "E0206",
          "rope.dimension_count");
  refuses("llama.vocab_size" + value(67), "llama.vocab_size" + value(66),
          "E0208", "token_embd.weight");
}

TEST(BadGgufTest, RotaryDivisorsThatAreNotLlama3) {
  std::string bad =
      readText(fixturePath("llama-quantized-gguf") + "/model.gguf");
  const std::string one("\0\0\x80\x3f", 4), two("\0\0\0\x40", 4);
  size_t at = bad.find(one + one);
  ASSERT_NE(at, std::string::npos);
  bad.replace(at, 4, two);
  TemporaryFolder folder;
  folder.write("model.gguf", bad);
  std::string error = importError(folder.path() + "/model.gguf");
  EXPECT_THAT(error, HasSubstr("LLMC-E0206"));
  EXPECT_THAT(error, HasSubstr("rope_freqs.weight"));
}

TEST(BadWeightsTest, TypeThatCannotBeRead) {
  std::string bad = readText(fixturePath("llama2") + "/model.safetensors");
  size_t at = bad.find("\"F16\"");
  ASSERT_NE(at, std::string::npos);
  bad[at + 1] = 'I';
  TemporaryFolder folder;
  folder.write("model.safetensors", bad);
  folder.write("config.json", readText(fixturePath("llama2") + "/config.json"));
  std::string error = importError(folder.path());
  EXPECT_THAT(error, HasSubstr("LLMC-E0307"));
  EXPECT_THAT(error, HasSubstr("has type I16"));
}

} // namespace
} // namespace llmc
