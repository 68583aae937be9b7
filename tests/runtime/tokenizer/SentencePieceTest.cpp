// SPDX-License-Identifier: Apache-2.0
// Our reading of tokenizer.model against Debian's libsentencepiece, on a small
// model of this repository and on Llama 2's.
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
  expectSameAsLibrary(model, "as trained");
  expectSameAsLibrary(model + normalizerField(3, 0), "no dummy prefix");
  auto squeezing = readSentencePieceModel(model + normalizerField(4, 1), {});
  EXPECT_EQ(squeezing.status().code(), absl::StatusCode::kUnimplemented);
}

} // namespace
} // namespace llmrt
