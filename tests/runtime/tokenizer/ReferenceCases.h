// SPDX-License-Identifier: Apache-2.0
// Comparing a tokenizer with what Hugging Face's tokenizers gave for the texts
// and ids of the fixtures; see fixtures/makeTokenizerFixtures.py.
#pragma once

#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace llmrt {

using Ids = std::vector<int32_t>;

// The texts begin with these, so that a variant's 60 are the first of all.
inline std::vector<std::string> readTexts() {
  return nlohmann::json::parse(readWholeFile(fixtureFile("texts.json")))
      .get<std::vector<std::string>>();
}

// Feeds ids one by one, or in the pieces that a pipeline might give.
inline std::string stream(const Tokenizer& tokenizer, const Ids& ids,
                          const DecodeOptions& options) {
  StreamingDecoder decoder(tokenizer, options);
  std::string text;
  for (int32_t id : ids) {
    std::string piece = decoder.push(id);
    // A piece on its own is valid UTF-8: no half characters.
    EXPECT_FALSE(nlohmann::json(piece).dump(-1, ' ', false).empty());
    text += piece;
  }
  return text + decoder.finish();
}

inline void expectCases(const Tokenizer& tokenizer, const nlohmann::json& cases,
                        const std::string& name) {
  std::vector<std::string> texts = readTexts();
  const nlohmann::json& expected = cases["ids"];
  const nlohmann::json& without = cases["idsWithoutSpecials"];
  ASSERT_LE(expected.size(), texts.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    std::string number = std::to_string(i);
    auto ids = tokenizer.encode(texts[i], {.addBos = false});
    ASSERT_TRUE(ids.ok()) << name << ": " << ids.status();
    EXPECT_EQ(*ids, expected[i].get<Ids>())
        << name << " text " << i << ": " << texts[i];
    auto plain =
        tokenizer.encode(texts[i], {.addBos = false, .parseSpecial = false});
    ASSERT_TRUE(plain.ok()) << name << ": " << plain.status();
    const nlohmann::json& ofPlain =
        without.contains(number) ? without[number] : expected[i];
    EXPECT_EQ(*plain, ofPlain.get<Ids>())
        << name << " text " << i << ": " << texts[i];
  }
  auto withBos = tokenizer.encode("Hello world");
  ASSERT_TRUE(withBos.ok());
  EXPECT_EQ(*withBos, cases["idsWithBos"].get<Ids>()) << name;
  for (const nlohmann::json& entry : cases["decoded"]) {
    Ids ids = entry["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.decode(ids), entry["text"].get<std::string>())
        << name << " " << entry["ids"];
    EXPECT_EQ(tokenizer.decode(ids, {.skipSpecial = true}),
              entry["textWithoutSpecials"].get<std::string>())
        << name << " " << entry["ids"];
    EXPECT_EQ(stream(tokenizer, ids, {}), tokenizer.decode(ids)) << name;
  }
}

} // namespace llmrt
