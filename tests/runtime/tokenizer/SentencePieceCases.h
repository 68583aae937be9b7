// SPDX-License-Identifier: Apache-2.0
// Comparing our reading of a tokenizer.model with libsentencepiece's.
#pragma once

#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "tests/runtime/tokenizer/SentencePieceOracle.h"
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <random>

namespace llmrt {

/// Expects the same ids for the texts of the fixtures, and the same texts for
/// random ids.
inline void expectSameAsLibrary(const std::string& model,
                                const std::string& name) {
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

} // namespace llmrt
