// SPDX-License-Identifier: Apache-2.0
// What is wrong with a tokenizer's files or a text is said with a stable code,
// and nothing crashes: every truncation, every flipped byte of small files, and
// one case for each contradiction.
#include "runtime/io/tokenizer/GgufTokenizerData.h"
#include "runtime/io/tokenizer/TokenizerReaders.h"
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <random>

namespace llmrt {
namespace {

using nlohmann::json;
using testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Tokenizer>>
finish(absl::StatusOr<std::unique_ptr<TokenizerParts>> parts) {
  if (!parts.ok())
    return parts.status();
  return Tokenizer::create(std::move(*parts));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> fromJson(std::string_view text) {
  auto document = readTokenizerDocument(text);
  if (!document.ok())
    return document.status();
  return finish(readTokenizerJson(*document, {}));
}

// A byte-level tokenizer of a few tokens.
json smallJson() {
  return json::parse(R"({
    "added_tokens": [{"id": 5, "content": "<s>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4},
              "merges": ["a b", "ab c"]}})");
}

void expectCoded(const absl::Status& status, const std::string& what) {
  ASSERT_FALSE(status.ok()) << what;
  EXPECT_THAT(std::string(status.message()), HasSubstr("LLMC-E05")) << what;
}

TEST(BadTokenizerJson, EveryTruncationIsRefused) {
  std::string text = smallJson().dump();
  ASSERT_TRUE(fromJson(text).ok()) << fromJson(text).status();
  for (size_t size = 0; size < text.size(); ++size)
    expectCoded(fromJson(std::string_view(text).substr(0, size)).status(),
                "truncated at " + std::to_string(size));
}

TEST(BadTokenizerJson, NoFlippedBitCrashes) {
  std::string text = smallJson().dump();
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      auto tokenizer = fromJson(flipped);
      if (tokenizer.ok())
        (*tokenizer)->encode("abc a <s>").status().IgnoreError();
      else
        expectCoded(tokenizer.status(), flipped);
    }
  }
}

struct Contradiction {
  const char* pointer; // into the file
  const char* value;
  const char* code;
  const char* words;
};

TEST(BadTokenizerJson, ContradictionsAreNamed) {
  for (
      const Contradiction& bad : {
          Contradiction{"/model/merges/1", R"("x c")", "E0503", "merge 1"},
          Contradiction{"/model/merges/1", R"("ab")", "E0503", "merge 1"},
          Contradiction{"/model/merges/0", R"(["a"])", "E0503", "merge"},
          Contradiction{"/model/merges/0", "7", "E0503", "merge"},
          Contradiction{"/model/vocab/a", "-1", "E0503", "out of range"},
          Contradiction{"/model/vocab/a", "4000000000", "E0503",
                        "out of range"},
          Contradiction{"/model/vocab/a", "900000000", "E0503", "out of range"},
          Contradiction{"/model/vocab/a", R"("0")", "E0503", "another type"},
          Contradiction{"/model/vocab", "[]", "E0503", "model.vocab"},
          Contradiction{"/model", "null", "E0503", "model.vocab"},
          Contradiction{"/model/type", R"("Unigram")", "E0504", "Unigram"},
          Contradiction{"/model/dropout", "0.1", "E0504", "dropout"},
          Contradiction{"/model/end_of_word_suffix", R"("</w>")", "E0504",
                        "</w>"},
          Contradiction{"/normalizer", R"({"type":"Lowercase"})", "E0504",
                        "Lowercase"},
          Contradiction{"/pre_tokenizer", R"({"type":"BertPreTokenizer"})",
                        "E0504", "Bert"},
          Contradiction{"/pre_tokenizer", "null", "E0504", "byte-level"},
          Contradiction{"/pre_tokenizer", R"({"type":"Sequence"})", "E0503",
                        "pretokenizers"},
          Contradiction{
              "/pre_tokenizer",
              R"({"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"})",
              "E0504", "regular expression"},
          Contradiction{
              "/pre_tokenizer",
              R"({"type":"Split","pattern":{"Regex":"[a&&b]"},"behavior":"Isolated"})",
              "E0504", "&&"},
          Contradiction{"/decoder", R"({"type":"WordPiece"})", "E0504",
                        "WordPiece"},
          Contradiction{"/decoder", "null", "E0504", "decoder"},
          Contradiction{"/post_processor", R"({"type":"BertProcessing"})",
                        "E0504", "Bert"},
          Contradiction{
              "/post_processor",
              R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]})",
              "E0503", "special_tokens"},
          Contradiction{"/added_tokens/0/id", "1", "E0503", "another token"},
          Contradiction{"/added_tokens/0/id", "null", "E0503", "id"},
          Contradiction{"/added_tokens/0/special", "3", "E0503", "special"},
          Contradiction{"/added_tokens", "{}", "E0503", "added_tokens"},
      }) {
    json file = smallJson();
    file[json::json_pointer(bad.pointer)] = json::parse(bad.value);
    absl::Status status = fromJson(file.dump()).status();
    ASSERT_FALSE(status.ok()) << bad.pointer << " " << bad.value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.code))
        << bad.pointer << " " << bad.value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.words))
        << bad.pointer << " " << bad.value;
  }
  std::string deep(100000, '[');
  expectCoded(fromJson(deep).status(), "deep");
  expectCoded(fromJson("{\"a\":" + deep).status(), "deep");
}

TEST(BadSentencePieceModel, TruncationsAndFlippedBytesDoNotCrash) {
  std::string model = readWholeFile(fixtureFile("tiny.model"));
  ASSERT_FALSE(model.empty());
  for (size_t size = 0; size < model.size(); size += 3) {
    auto tokenizer = finish(
        readSentencePieceModel(std::string_view(model).substr(0, size), {}));
    // Without its specifications, which come last, a model is of another type.
    expectCoded(tokenizer.status(), "truncated at " + std::to_string(size));
  }
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string flipped = model;
    flipped[random() % model.size()] ^= static_cast<char>(1 << random() % 8);
    auto tokenizer = finish(readSentencePieceModel(flipped, {}));
    if (tokenizer.ok())
      (*tokenizer)->encode("Hello world").status().IgnoreError();
    else
      expectCoded(tokenizer.status(), "flipped");
  }
}

TEST(BadTiktokenModel, IsRefused) {
  for (const char* text : {"IQ== 0\n", "IQ== 1\n", "!!! 0\n", "IQ==\n", " 0\n",
                           "IQ== 99999999999\n", "IQ== 0\nIQ== 0\n"})
    expectCoded(readTiktokenModel(text, {}).status(), text);
}

TEST(BadGgufTokenizer, IsRefused) {
  GgufTokenizerData good;
  good.model = "gpt2";
  good.pre = "gpt-2";
  good.tokens = {"a", "b", "ab"};
  good.merges = {"a b"};
  ASSERT_TRUE(loadTokenizerFromGguf(good).ok());
  auto expectBad = [&](auto change, const char* words) {
    GgufTokenizerData bad = good;
    change(bad);
    absl::Status status = loadTokenizerFromGguf(bad).status();
    ASSERT_FALSE(status.ok()) << words;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  };
  using Data = GgufTokenizerData;
  expectBad([](Data& d) { d.model = "bert"; }, "bert");
  expectBad([](Data& d) { d.pre = "falcon"; }, "smollm");
  expectBad([](Data& d) { d.tokens.clear(); }, "no tokens");
  expectBad([](Data& d) { d.tokenTypes = {1}; }, "token types");
  expectBad([](Data& d) { d.tokenTypes = {1, 9, 1}; }, "type 9");
  expectBad([](Data& d) { d.bosId = 3; }, "bos_token_id");
  expectBad([](Data& d) { d.eosId = -1; }, "eos_token_id");
  expectBad([](Data& d) { d.eosIds = {1, 7}; }, "eos_token_ids");
  expectBad([](Data& d) { d.addBos = true; }, "names none");
  expectBad([](Data& d) { d.merges = {"a c"}; }, "merge 0");
  expectBad([](Data& d) { d.merges = {"a b c"}; }, "merge 0");
  expectBad([](Data& d) { d.model = "llama"; }, "scores");
  expectBad(
      [](Data& d) {
        d.model = "llama";
        d.scores = {0, std::nanf(""), 0};
      },
      "no number");
}

TEST(BadFiles, AreNamed) {
  namespace fs = std::filesystem;
  fs::path directory = fs::path(testing::TempDir()) / "badTokenizers";
  fs::remove_all(directory);
  fs::create_directories(directory);
  auto write = [&](const char* name, const std::string& text) {
    std::ofstream(directory / name, std::ios::binary) << text;
    return (directory / name).string();
  };
  auto messageOf = [](const std::string& path) {
    return std::string(Tokenizer::load(path).status().message());
  };
  EXPECT_THAT(messageOf((directory / "absent").string()), HasSubstr("E0103"));
  EXPECT_THAT(messageOf(directory.string()), HasSubstr("E0501"));
  EXPECT_THAT(messageOf(write("empty", "")), HasSubstr("E0502"));
  EXPECT_THAT(messageOf(write("prose", "Once upon a time")),
              HasSubstr("E0502"));
  EXPECT_THAT(messageOf(write("gguf", "GGUF")), HasSubstr("LLMC-E04"));
  EXPECT_THAT(messageOf(write("vocab.json", R"({"a": 0})")),
              HasSubstr("E0501"));
  EXPECT_THAT(messageOf(write("merges", "#version: 0.2\na b\n")),
              HasSubstr("E0503"));
  fs::remove(directory / "vocab.json");
  EXPECT_THAT(messageOf(directory.string() + "/merges"), HasSubstr("E0501"));
  std::string good = write("tokenizer.json", smallJson().dump());
  EXPECT_TRUE(Tokenizer::load(directory.string()).ok());
  EXPECT_TRUE(Tokenizer::load(good).ok());
  write("tokenizer_config.json", "{");
  EXPECT_THAT(messageOf(good), HasSubstr("tokenizer_config.json"));
  write("tokenizer_config.json", R"({"add_bos_token": "yes"})");
  EXPECT_THAT(messageOf(good), HasSubstr("add_bos_token"));
  write("tokenizer_config.json", R"({"eos_token": {"content": "<s>"}})");
  write("generation_config.json", R"({"eos_token_id": [4, 99]})");
  auto tokenizer = Tokenizer::load(good);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->eosIds(), testing::ElementsAre(4, 5));
}

TEST(BadText, BytesWithoutATokenAreRefused) {
  auto tokenizer = fromJson(smallJson().dump());
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_THAT(std::string((*tokenizer)->encode("abcx").status().message()),
              HasSubstr("LLMC-E0506"));
  EXPECT_EQ((*tokenizer)->decode({-1, 4, 6, INT32_MAX, 5}), "abc<s>");
}

} // namespace
} // namespace llmrt
