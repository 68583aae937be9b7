// SPDX-License-Identifier: Apache-2.0
// Ids and texts against Hugging Face's tokenizers: random multilingual and odd
// texts with real tokenizers, and with small ones that have one component each.
#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

namespace llmrt {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

// The texts begin with these, so that a variant's 60 are the first of all.
std::vector<std::string> readTexts() {
  return json::parse(readWholeFile(fixtureFile("texts.json")))
      .get<std::vector<std::string>>();
}

// Feeds ids one by one, or in the pieces that a pipeline might give.
std::string stream(const Tokenizer& tokenizer, const Ids& ids,
                   const DecodeOptions& options) {
  StreamingDecoder decoder(tokenizer, options);
  std::string text;
  for (int32_t id : ids) {
    std::string piece = decoder.push(id);
    // A piece on its own is valid UTF-8: no half characters.
    EXPECT_FALSE(json(piece).dump(-1, ' ', false).empty());
    text += piece;
  }
  return text + decoder.finish();
}

void expectCases(const Tokenizer& tokenizer, const json& cases,
                 const std::string& name) {
  std::vector<std::string> texts = readTexts();
  const json& expected = cases["ids"];
  const json& without = cases["idsWithoutSpecials"];
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
    const json& ofPlain =
        without.contains(number) ? without[number] : expected[i];
    EXPECT_EQ(*plain, ofPlain.get<Ids>())
        << name << " text " << i << ": " << texts[i];
  }
  auto withBos = tokenizer.encode("Hello world");
  ASSERT_TRUE(withBos.ok());
  EXPECT_EQ(*withBos, cases["idsWithBos"].get<Ids>()) << name;
  for (const json& entry : cases["decoded"]) {
    Ids ids = entry["ids"].get<Ids>();
    EXPECT_EQ(tokenizer.decode(ids), entry["text"].get<std::string>())
        << name << " " << entry["ids"];
    EXPECT_EQ(tokenizer.decode(ids, {.skipSpecial = true}),
              entry["textWithoutSpecials"].get<std::string>())
        << name << " " << entry["ids"];
    EXPECT_EQ(stream(tokenizer, ids, {}), tokenizer.decode(ids)) << name;
  }
}

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

TEST(TokenizerVariants, GiveTheReferencesIdsAndTexts) {
  json fixture = json::parse(readWholeFile(fixtureFile("variants.json")));
  for (const json& variant : fixture["variants"]) {
    std::string name = variant["name"].get<std::string>();
    json file = fixture["bases"][variant["base"].get<std::string>()];
    for (const auto& [key, value] : variant["change"].items()) {
      if (key == "model")
        file[key].update(value);
      else
        file[key] = value;
    }
    auto document = readTokenizerDocument(file.dump());
    ASSERT_TRUE(document.ok()) << name << ": " << document.status();
    auto parts = readTokenizerJson(*document, {});
    ASSERT_TRUE(parts.ok()) << name << ": " << parts.status();
    auto tokenizer = Tokenizer::create(std::move(*parts));
    ASSERT_TRUE(tokenizer.ok()) << name << ": " << tokenizer.status();
    expectCases(**tokenizer, variant, name);
  }
}

} // namespace
} // namespace llmrt
