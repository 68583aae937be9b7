// SPDX-License-Identifier: Apache-2.0
// Every fixture imports, verifies and survives its own text; shapes and
// attributes are those of the published configs. Numbers are compared end to
// end, in tests/e2e.
#include "tests/models/ModelText.h"

#include "nlohmann/json.hpp"
#include "gmock/gmock.h"

namespace llmc {
namespace {

using testing::HasSubstr;
using testing::Not;

class FixtureTest : public testing::TestWithParam<const char*> {};

TEST_P(FixtureTest, ImportsAndRoundTrips) {
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, fixturePath(GetParam()), "");
  ASSERT_TRUE(module.ok()) << module.status();
  ASSERT_TRUE(mlir::succeeded(mlir::verify(**module)));
  for (bool withLocations : {false, true}) {
    std::string text = textOf(**module, withLocations);
    auto again = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    ASSERT_TRUE(again) << text;
    EXPECT_EQ(textOf(*again, withLocations), text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FixtureTest,
                         testing::Values("llama2", "llama3", "llama-9q3kv",
                                         "mistral", "qwen2", "qwen3", "gemma2",
                                         "gemma3", "gpt2", "llama-f32-gguf",
                                         "llama-quantized-gguf",
                                         "qwen2-f16-gguf", "qwen3-bf16-gguf",
                                         "gpt2-f32-gguf"));

std::string import(const std::string& name) {
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, fixturePath(name), "");
  return module.ok() ? textOf(**module) : module.status().ToString();
}

int64_t numBlocks(const std::string& text) {
  int64_t count = 0;
  for (size_t at = 0; (at = text.find("llm.block", at)) != std::string::npos;
       ++at)
    ++count;
  return count;
}

TEST(ImportTest, RepeatedLayerIsWrittenOnce) {
  EXPECT_EQ(numBlocks(import("qwen2")), 1);
  EXPECT_EQ(numBlocks(import("gemma2")), 2);
  EXPECT_EQ(numBlocks(import("gemma3")), 2);
}

TEST(ImportTest, SplitsFollowHeads) {
  std::string text = import("llama-9q3kv");
  EXPECT_THAT(text, HasSubstr("@model.layers.0.self_attn.q_proj.weight : "
                              "tensor<72x72xf32> split <dim = 0, "
                              "unit = 8>"));
  EXPECT_THAT(text, HasSubstr("@model.layers.2.self_attn.v_proj.weight : "
                              "tensor<24x72xf32> split <dim = 0, "
                              "unit = 8, group = 3>"));
  EXPECT_THAT(text, HasSubstr("@model.layers.0.self_attn.o_proj.weight : "
                              "tensor<72x72xf32> split <dim = 1, "
                              "unit = 8>"));
  EXPECT_THAT(text, Not(HasSubstr("lm_head")));
}

TEST(ImportTest, Llama3Scaling) {
  EXPECT_THAT(import("llama3"),
              HasSubstr("theta = 5.000000e+02, scaling = llama3, factor = "
                        "8.000000e+00, originalContext = 64"));
  // In GGUF only the divisors are left.
  EXPECT_THAT(import("llama-quantized-gguf"),
              HasSubstr("interleaved = true, scaling = llama3, factor = "
                        "8.000000e+00, originalContext = 64"));
}

TEST(ImportTest, GgufNamesAreSources) {
  EXPECT_THAT(import("llama-f32-gguf"),
              HasSubstr("@model.layers.1.mlp.down_proj.weight : "
                        "tensor<40x44xf32> source \"blk.1.ffn_down.weight\""));
  EXPECT_THAT(import("qwen3-bf16-gguf"), Not(HasSubstr("interleaved")));
}

TEST(ImportTest, Gpt2SplitsItsFusedWeight) {
  std::string text = import("gpt2");
  EXPECT_THAT(text, HasSubstr("@transformer.h.0.attn.k_proj.weight : "
                              "tensor<36x36xf32> source "
                              "\"h.0.attn.c_attn.weight\" transposed"));
  EXPECT_THAT(text, HasSubstr("{rows = [36, 72]}"));
  EXPECT_THAT(import("gpt2-f32-gguf"), Not(HasSubstr("transposed")));
}

TEST(ImportTest, WindowsAndBases) {
  EXPECT_THAT(import("mistral"), HasSubstr("window = 24 : i64"));
  EXPECT_THAT(import("qwen2"), Not(HasSubstr("window =")));
  std::string gemma = import("gemma3");
  EXPECT_THAT(gemma, HasSubstr("theta = 1.000000e+02"));
  EXPECT_THAT(gemma, HasSubstr("theta = 1.000000e+04"));
}

/// Imports the gemma3 fixture with another config and no source.
std::string importGemma3(const nlohmann::json& config) {
  TemporaryFolder folder;
  folder.link(fixturePath("gemma3") + "/model.safetensors",
              "model.safetensors");
  folder.write("config.json", config.dump());
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, folder.path(), folder.path());
  return module.ok() ? textOf(**module) : module.status().ToString();
}

TEST(ImportTest, Gemma3ConfigsOfThreeKindsAgree) {
  auto config =
      nlohmann::json::parse(readText(fixturePath("gemma3") + "/config.json"));
  std::string text = importGemma3(config);
  ASSERT_THAT(text, HasSubstr("llm.model"));
  // As transformers 5 writes it.
  nlohmann::json current = config;
  current.merge_patch(nlohmann::json::parse(R"({
    "rope_theta": null, "rope_local_base_freq": null, "rope_scaling": null,
    "sliding_window_pattern": null, "rope_parameters": {
      "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}},
    "layer_types": ["sliding_attention", "sliding_attention",
      "full_attention", "sliding_attention", "sliding_attention"]})"));
  EXPECT_EQ(importGemma3(current), text);
  // The text part of a model that sees images.
  nlohmann::json outer = {{"model_type", "gemma3"},
                          {"architectures", {"Gemma3ForConditionalGeneration"}},
                          {"text_config", config}};
  EXPECT_EQ(importGemma3(outer), text);
}

TEST(ImportTest, SourceIsRelativeToTheOutput) {
  mlir::MLIRContext context;
  std::string folder = fixturePath("llama2");
  auto inside = importCheckpoint(context, folder, folder);
  ASSERT_TRUE(inside.ok()) << inside.status();
  EXPECT_THAT(textOf(**inside), HasSubstr("source = \".\""));
  auto beside = importCheckpoint(context, folder + "/", fixturePath("gpt2"));
  ASSERT_TRUE(beside.ok()) << beside.status();
  EXPECT_THAT(textOf(**beside), HasSubstr("source = \"../llama2\""));
}

TEST(RealModelTest, Stories260K) {
  std::string data = environmentPath("LLMC_TEST_DATA");
  std::string folder = data + "/stories260K/hf";
  if (!std::filesystem::exists(folder))
    GTEST_SKIP() << "no " << folder;
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, folder, "");
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(numParameters(**module), 260032);
}

TEST(RealModelTest, GptNanoSort) {
  std::string data = environmentPath("LLMC_TEST_DATA");
  std::string weights = data + "/gpt-nano-sort/model.safetensors";
  if (!std::filesystem::exists(weights))
    GTEST_SKIP() << "no " << weights;
  TemporaryFolder folder;
  folder.link(std::filesystem::absolute(weights), "model.safetensors");
  folder.write("config.json", R"({"model_type": "gpt2", "vocab_size": 3,
    "n_embd": 48, "n_layer": 3, "n_head": 3, "n_positions": 11,
    "layer_norm_epsilon": 1e-5, "tie_word_embeddings": false,
    "transposed_weights": false, "attention_bias": false})");
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, folder.path(), "");
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(numParameters(**module), 85296);
}

TEST(RealModelTest, SmolLm2) {
  std::string file = environmentPath("LLMC_SMOLLM2_GGUF");
  if (file.empty())
    GTEST_SKIP() << "LLMC_SMOLLM2_GGUF does not name SmolLM2's GGUF file";
  mlir::MLIRContext context;
  auto module = importCheckpoint(context, file, "");
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(numParameters(**module), 134515008);
  EXPECT_THAT(textOf(**module), HasSubstr("tokenizer = "));
}

} // namespace
} // namespace llmc
