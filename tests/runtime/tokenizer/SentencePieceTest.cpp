// SPDX-License-Identifier: Apache-2.0
// Tokenizers of SentencePiece's pieces against Debian's libsentencepiece, on a
// small model of this repository.
#include "tests/runtime/tokenizer/SentencePieceCases.h"

namespace llmrt {
namespace {

// A field of the normalizer specification, appended as a second one: protobuf
// merges the two.
std::string normalizerField(char number, char value) {
  return {'\x1a', '\x02', static_cast<char>(number << 3), value};
}

TEST(SentencePieceModel, GivesTheLibrarysIdsWithEverySetting) {
  std::string model = readWholeFile(fixtureFile("tiny.model"));
  ASSERT_FALSE(model.empty());
  expectModelIsTheLibrarys(model, "as trained");
  expectModelIsTheLibrarys(model + normalizerField(3, 0), "no dummy prefix");
  auto squeezing = readSentencePieceModel(model + normalizerField(4, 1), {});
  EXPECT_EQ(squeezing.status().code(), absl::StatusCode::kUnimplemented);
  expectOwnBpeIsTheLibrarys(model, "as trained");
  expectOwnBpeIsTheLibrarys(model + normalizerField(3, 0), "no dummy prefix");
}

// Special tokens are the files' and are cut out before the library sees text.
TEST(SentencePieceModel, SpecialTokensStandBetweenTexts) {
  std::string model = readWholeFile(fixtureFile("tiny.model"));
  TokenizerConfig config;
  AddedToken turn;
  turn.content = "<turn>";
  turn.isNormalized = true;
  turn.id = SentencePieceOracle::load(model)->sizePieces() + 3;
  config.addedTokens.push_back(turn);
  auto parts = readSentencePieceModel(model, config);
  ASSERT_TRUE(parts.ok()) << parts.status();
  auto tokenizer = Tokenizer::create(std::move(*parts));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto encode = [&](const std::string& text, bool parseSpecial) {
    auto ids =
        (*tokenizer)
            ->encode(text, {.addBos = false, .parseSpecial = parseSpecial});
    EXPECT_TRUE(ids.ok()) << ids.status();
    return *ids;
  };
  std::vector<int32_t> expected = encode("hello", true);
  expected.push_back(turn.id);
  expected.push_back(*(*tokenizer)->findSpecial("</s>"));
  std::vector<int32_t> rest = encode("it is", true);
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(encode("hello<turn></s>it is", true), expected);
  EXPECT_EQ((*tokenizer)->decode(encode("a </s> b", false)), "a </s> b");
  EXPECT_TRUE(encode("", true).empty());
}

} // namespace
} // namespace llmrt
