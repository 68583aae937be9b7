// SPDX-License-Identifier: Apache-2.0
// The llama.cpp vocabulary cases of each real tokenizer, in each file format in
// which it is at hand. The expected ids come from llama.cpp's repository.
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>

#include <sstream>
#include <vector>

namespace llmrt {
namespace {

constexpr const char* kSeparator = "\n__ggml_vocab_test__\n";

struct CasesParam {
  const char* name;
  const char* tokenizer; // file or directory of the test data
  const char* cases;     // .inp and .out
};

void PrintTo(const CasesParam& param, std::ostream* out) { *out << param.name; }

std::vector<std::string> readTexts(const std::string& path) {
  std::string all = readWholeFile(path);
  std::vector<std::string> texts;
  size_t begin = 0;
  for (size_t end; (end = all.find(kSeparator, begin)) != std::string::npos;
       begin = end + std::string_view(kSeparator).size())
    texts.push_back(all.substr(begin, end - begin));
  texts.push_back(all.substr(begin));
  return texts;
}

std::vector<std::vector<int32_t>> readIds(const std::string& path) {
  std::istringstream in(readWholeFile(path));
  std::vector<std::vector<int32_t>> all;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    auto& ids = all.emplace_back();
    for (int32_t id; words >> id;)
      ids.push_back(id);
  }
  return all;
}

class TokenizerCases : public testing::TestWithParam<CasesParam> {};

TEST_P(TokenizerCases, EncodesAndDecodesEveryCase) {
  std::string file = testDataFile(GetParam().tokenizer);
  std::string cases = testDataFile(std::string(GetParam().cases) + ".inp");
  if (file.empty() || cases.empty())
    GTEST_SKIP() << "no test data: " << GetParam().tokenizer
                 << " (set LLMC_TEST_DATA)";
  auto tokenizer = Tokenizer::load(file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<std::string> texts = readTexts(cases);
  std::vector<std::vector<int32_t>> expected =
      readIds(testDataFile(std::string(GetParam().cases) + ".out"));
  // The last text is empty, and its line of ids is left out.
  expected.emplace_back();
  ASSERT_EQ(texts.size(), 47u);
  ASSERT_EQ(expected.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    auto ids = (*tokenizer)->encode(texts[i], {.addBos = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_THAT(*ids, testing::ElementsAreArray(expected[i]))
        << "case " << i << ": " << texts[i];
    EXPECT_EQ((*tokenizer)->decode(*ids), texts[i]) << "case " << i;
    StreamingDecoder decoder(**tokenizer);
    std::string streamed;
    for (int32_t id : *ids)
      streamed += decoder.push(id);
    EXPECT_EQ(streamed + decoder.finish(), texts[i]) << "case " << i;
  }
}

constexpr const char* kGpt2Cases = "tok-gpt2/ggml-vocab-gpt-2.gguf";
constexpr const char* kLlama2Cases = "tok-llama2/ggml-vocab-llama-spm.gguf";
constexpr const char* kLlama3Cases = "tok-llama3/ggml-vocab-llama-bpe.gguf";
constexpr const char* kQwenCases = "tok-qwen3/ggml-vocab-qwen2.gguf";

INSTANTIATE_TEST_SUITE_P(
    RealTokenizers, TokenizerCases,
    testing::Values(
        CasesParam{"Gpt2Directory", "tok-gpt2", kGpt2Cases},
        CasesParam{"Gpt2Encoder", "tok-gpt2/encoder.json", kGpt2Cases},
        CasesParam{"Gpt2Merges", "tok-gpt2/vocab.bpe", kGpt2Cases},
        CasesParam{"Gpt2Gguf", kGpt2Cases, kGpt2Cases},
        CasesParam{"Llama2SentencePiece", "tok-llama2/tokenizer.model",
                   kLlama2Cases},
        CasesParam{"Llama2Gguf", kLlama2Cases, kLlama2Cases},
        CasesParam{"Llama3Tiktoken", "tok-llama3/tokenizer.model",
                   kLlama3Cases},
        CasesParam{"Llama3Json", "tok-llama3/hf-tokenizer.json", kLlama3Cases},
        CasesParam{"Qwen3Json", "tok-qwen3/tokenizer.json", kQwenCases},
        CasesParam{"Qwen3Directory", "tok-qwen3", kQwenCases}),
    [](const auto& info) { return std::string(info.param.name); });

} // namespace
} // namespace llmrt
