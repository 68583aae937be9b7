// SPDX-License-Identifier: Apache-2.0
// Our reading of tokenizer.model against Debian's libsentencepiece, on a small
// model of this repository and on Llama 2's.
#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "tests/runtime/tokenizer/SentencePieceOracle.h"
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <random>

namespace llmrt {
namespace {

// A field of the normalizer specification, appended as a second one: protobuf
// merges the two.
std::string normalizerField(char number, char value) {
  return {'\x1a', '\x02', static_cast<char>(number << 3), value};
}

void expectSameAsLibrary(const std::string& model, const std::string& name) {
  auto library = SentencePieceOracle::load(model);
  ASSERT_TRUE(library) << name;
  auto parts = readSentencePieceModel(model, {});
  ASSERT_TRUE(parts.ok()) << name << ": " << parts.status();
  auto tokenizer = Tokenizer::create(std::move(*parts));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto texts = nlohmann::json::parse(readWholeFile(fixtureFile("texts.json")))
                   .get<std::vector<std::string>>();
  for (const std::string& text : texts) {
    std::vector<int> expected = library->encode(text);
    auto ids =
        (*tokenizer)->encode(text, {.addBos = false, .parseSpecial = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_THAT(*ids, testing::ElementsAreArray(expected))
        << name << ": " << text;
    EXPECT_EQ((*tokenizer)->decode(*ids), library->decode(expected))
        << name << ": " << text;
  }
  // Random ids: runs of byte tokens that are no UTF-8, too.
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    std::vector<int> ids(1 + random() % 12);
    for (int& id : ids)
      id = 3 + random() % (random() % 2 ? 300 : library->sizePieces() - 3);
    // The library keeps a leading space that is a byte token. It never stands
    // there: the vocabulary has a token for a space.
    std::erase_if(
        ids, [&](int id) { return (*tokenizer)->tokenText(id) == "<0x20>"; });
    EXPECT_EQ((*tokenizer)->decode(ids), library->decode(ids)) << name;
  }
}

TEST(SentencePieceModel, GivesTheLibrarysIdsWithEverySetting) {
  std::string model = readWholeFile(fixtureFile("tiny.model"));
  ASSERT_FALSE(model.empty());
  expectSameAsLibrary(model, "as trained");
  expectSameAsLibrary(model + normalizerField(3, 0), "no dummy prefix");
  auto squeezing = readSentencePieceModel(model + normalizerField(4, 1), {});
  EXPECT_EQ(squeezing.status().code(), absl::StatusCode::kUnimplemented);
}

TEST(SentencePieceModel, GivesTheLibrarysIdsForLlama2) {
  std::string file = testDataFile("tok-llama2/tokenizer.model");
  if (file.empty())
    GTEST_SKIP() << "no tok-llama2 (set LLMC_TEST_DATA)";
  expectSameAsLibrary(readWholeFile(file), "Llama 2");
}

} // namespace
} // namespace llmrt
