// SPDX-License-Identifier: Apache-2.0
// Real tokenizers, which are not in the repository, against Hugging Face's
// tokenizers: random multilingual and odd texts.
#include "tests/runtime/tokenizer/ReferenceCases.h"

#include <gmock/gmock.h>

#include <random>

namespace llmrt {
namespace {

using nlohmann::json;

struct RealParam {
  const char* name; // in real.json
  const char* file; // of the test data, "" for SmolLM2
};

class RealTokenizer : public testing::TestWithParam<RealParam> {};

TEST_P(RealTokenizer, GivesTheReferencesIdsAndTexts) {
  std::string file =
      GetParam().file[0] ? testDataFile(GetParam().file) : smolLm2File();
  if (file.empty())
    GTEST_SKIP() << "no tokenizer of " << GetParam().name
                 << " (set LLMC_TEST_DATA, LLMC_SMOLLM2_GGUF)";
  auto tokenizer = Tokenizer::load(file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  json real = json::parse(readWholeFile(fixtureFile("real.json")));
  expectCases(**tokenizer, real[GetParam().name], GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(
    All, RealTokenizer,
    testing::Values(RealParam{"smollm2", ""},
                    RealParam{"qwen3", "tok-qwen3/tokenizer.json"},
                    RealParam{"llama3", "tok-llama3/hf-tokenizer.json"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(RandomBytes, AreRefusedOrRoundTrip) {
  std::string file = smolLm2File();
  if (file.empty())
    GTEST_SKIP() << "no SmolLM2 file (set LLMC_SMOLLM2_GGUF)";
  auto tokenizer = Tokenizer::load(file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::mt19937 random(5);
  for (int i = 0; i < 2000; ++i) {
    std::string text(random() % 40, '\0');
    for (char& c : text)
      c = static_cast<char>(random() % (i % 2 ? 256 : 128));
    auto ids = (*tokenizer)->encode(text);
    if (ids.ok())
      EXPECT_EQ((*tokenizer)->decode(*ids), text);
    else
      EXPECT_THAT(std::string(ids.status().message()),
                  testing::HasSubstr("LLMC-E05"));
  }
  // Its vocabulary was made from texts without this one.
  EXPECT_THAT(std::string((*tokenizer)->encode("a\x06z").status().message()),
              testing::HasSubstr("bytes 06"));
  EXPECT_THAT(std::string((*tokenizer)->encode("ab\xFF").status().message()),
              testing::HasSubstr("LLMC-E0505"));
}

} // namespace
} // namespace llmrt
