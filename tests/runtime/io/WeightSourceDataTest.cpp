// SPDX-License-Identifier: Apache-2.0
// Real files. A program of its own, because it is skipped without them.
#include "runtime/io/WeightSource.h"

#include <cstdlib>
#include <filesystem>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::ElementsAre;

TEST(WeightSourceDataTest, ReadsStories260K) {
  const char* data = std::getenv("LLMC_TEST_DATA");
  const std::string folder = std::string(data ? data : "") + "/stories260K/hf";
  if (!std::filesystem::exists(folder))
    GTEST_SKIP() << "LLMC_TEST_DATA has no stories260K";
  auto source = WeightSource::open(folder);
  ASSERT_TRUE(source.ok()) << source.status();
  absl::StatusOr<const SourceTensor*> tensor =
      (*source)->require("model.embed_tokens.weight");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT((*tensor)->shape, ElementsAre(512, 64));
  int64_t numElements = 0;
  for (const SourceTensor& each : (*source)->tensors())
    numElements += each.numElements();
  EXPECT_GE(numElements, 260032);
}

TEST(WeightSourceDataTest, ReadsAVocabularyGguf) {
  const char* data = std::getenv("LLMC_TEST_DATA");
  const std::string path =
      std::string(data ? data : "") + "/tok-gpt2/ggml-vocab-gpt-2.gguf";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "LLMC_TEST_DATA has no tok-gpt2";
  auto source = WeightSource::open(path);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE((*source)->tensors().empty());
  const GgufFile* gguf = (*source)->gguf();
  ASSERT_NE(gguf, nullptr);
  EXPECT_EQ(*gguf->readText("general.architecture"), "gpt2");
  auto tokens = gguf->readTexts("tokenizer.ggml.tokens");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->size(), 50257u);
  EXPECT_EQ(tokens->back(), "<|endoftext|>");
}

} // namespace
} // namespace llmrt
