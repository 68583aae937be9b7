// SPDX-License-Identifier: Apache-2.0
// Small tokenizer.json files that have one component each, against Hugging
// Face's tokenizers.
#include "runtime/io/tokenizer/TokenizerParts.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "tests/runtime/tokenizer/ReferenceCases.h"

namespace llmrt {
namespace {

using nlohmann::json;

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
