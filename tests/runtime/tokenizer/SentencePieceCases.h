// SPDX-License-Identifier: Apache-2.0
// Comparing tokenizers with libsentencepiece: that of a tokenizer.model, and
// our own BPE over the same pieces, which tokenizers inside GGUF files need.
#pragma once

#include "runtime/io/tokenizer/SentencePieceProto.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "tests/runtime/tokenizer/SentencePieceOracle.h"
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <random>

namespace llmrt {

/// Expects the same ids for the texts of the fixtures, and the same texts for
/// random ids.
inline void expectSameAsLibrary(const SentencePieceOracle& oracle,
                                std::unique_ptr<TokenizerParts> parts,
                                const std::string& name) {
  auto tokenizer = Tokenizer::create(std::move(parts));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto texts = nlohmann::json::parse(readWholeFile(fixtureFile("texts.json")))
                   .get<std::vector<std::string>>();
  for (const std::string& text : texts) {
    std::vector<int> expected = oracle.encode(text);
    auto ids =
        (*tokenizer)->encode(text, {.addBos = false, .parseSpecial = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_THAT(*ids, testing::ElementsAreArray(expected))
        << name << ": " << text;
    EXPECT_EQ((*tokenizer)->decode(*ids), oracle.decode(expected))
        << name << ": " << text;
  }
  // Random ids: runs of byte tokens that are no UTF-8, too.
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    std::vector<int> ids(1 + random() % 12);
    for (int& id : ids)
      id = 3 + random() % (random() % 2 ? 300 : oracle.sizePieces() - 3);
    // The library keeps a leading space that is a byte token. It never stands
    // there: the vocabulary has a token for a space.
    std::erase_if(
        ids, [&](int id) { return (*tokenizer)->tokenText(id) == "<0x20>"; });
    EXPECT_EQ((*tokenizer)->decode(ids), oracle.decode(ids)) << name;
  }
}

/// The tokenizer of a tokenizer.model.
inline void expectModelIsTheLibrarys(const std::string& model,
                                     const std::string& name) {
  auto library = SentencePieceOracle::load(model);
  ASSERT_TRUE(library) << name;
  auto parts = readSentencePieceModel(model, {});
  ASSERT_TRUE(parts.ok()) << name << ": " << parts.status();
  expectSameAsLibrary(*library, std::move(*parts), name);
}

/// Our own BPE over its pieces.
inline void expectOwnBpeIsTheLibrarys(const std::string& model,
                                      const std::string& name) {
  auto library = SentencePieceOracle::load(model);
  ASSERT_TRUE(library) << name;
  auto proto = readSentencePieceProto(model);
  ASSERT_TRUE(proto.ok()) << name << ": " << proto.status();
  auto parts = std::make_unique<TokenizerParts>();
  absl::Status filled = fillSentencePieceParts(proto->spec, *parts);
  ASSERT_TRUE(filled.ok()) << filled;
  expectSameAsLibrary(*library, std::move(parts), name);
}

} // namespace llmrt
