// SPDX-License-Identifier: Apache-2.0
// What tests of training data share: a folder, and a tokenizer whose ids can be
// told by looking: a byte is its own id.
#pragma once

#include "runtime/data/BatchSource.h"
#include "runtime/data/BuildTokenFile.h"
#include "runtime/io/tokenizer/Utf8.h"
#include "tests/runtime/io/FolderTest.h"

#include "nlohmann/json.hpp"
#include <gmock/gmock.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace llmrt::testing {

inline constexpr int32_t kEndOfText = 256, kTurnStart = 257, kTurnEnd = 258;
inline constexpr int32_t kIgnored = kIgnoredLabel;

using Ids = std::vector<int32_t>;

/// Returns a byte as GPT-2's alphabet writes it: printable ones as they are,
/// the others from U+0100 on.
inline std::string alphabetOf(int byte) {
  auto isPrintable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  char32_t written = byte;
  if (!isPrintable(byte)) {
    written = 256;
    for (int b = 0; b < byte; ++b)
      written += !isPrintable(b);
  }
  std::string text;
  appendUtf8(written, text);
  return text;
}

inline std::string byteTokenizerJson() {
  nlohmann::json vocabulary, added = nlohmann::json::array();
  for (int byte = 0; byte < 256; ++byte)
    vocabulary[alphabetOf(byte)] = byte;
  int32_t id = kEndOfText;
  for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
    added.push_back({{"id", id++},
                     {"content", text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  nlohmann::json byteLevel = {{"type", "ByteLevel"},
                              {"add_prefix_space", false},
                              {"trim_offsets", true},
                              {"use_regex", false}};
  nlohmann::json file = {{"version", "1.0"},
                         {"added_tokens", added},
                         {"normalizer", nullptr},
                         {"pre_tokenizer", byteLevel},
                         {"post_processor", nullptr},
                         {"decoder", byteLevel},
                         {"model",
                          {{"type", "BPE"},
                           {"vocab", vocabulary},
                           {"merges", nlohmann::json::array()}}}};
  return file.dump();
}

/// The ids of a text under the byte tokenizer: '^' is the end of the text, '['
/// and ']' are those of a turn.
inline Ids idsOf(const std::string& text) {
  Ids ids;
  for (char c : text)
    ids.push_back(c == '^'   ? kEndOfText
                  : c == '[' ? kTurnStart
                  : c == ']' ? kTurnEnd
                             : static_cast<uint8_t>(c));
  return ids;
}

class DataTest : public FolderTest {
protected:
  void SetUp() override {
    FolderTest::SetUp();
    write("tokenizer.json", byteTokenizerJson());
    auto tokenizer = Tokenizer::load(pathOf("tokenizer.json"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
  }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(pathOf(name), std::ios::binary) << text;
    return pathOf(name);
  }

  std::string read(const std::string& name) const {
    std::ifstream in(pathOf(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in),
            std::istreambuf_iterator<char>()};
  }

  DataOptions optionsOf(std::vector<std::string> files,
                        Objective objective = Objective::Pretrain) const {
    DataOptions options;
    options.files = std::move(files);
    options.objective = objective;
    options.tokenizer = tokenizer_.get();
    return options;
  }

  /// Builds and opens; a failure shows in the status.
  absl::StatusOr<BatchSource> open(const DataOptions& options,
                                   const BatchSourceOptions& sourceOptions) {
    absl::StatusOr<BuildReport> report = buildTokenFile(options);
    if (!report.ok())
      return report.status();
    report_ = *report;
    absl::StatusOr<TokenFile> file = openTokenFile(options);
    if (!file.ok())
      return file.status();
    return BatchSource::create(std::move(*file), options.files, sourceOptions);
  }

  /// Writes one file of `text` and opens it.
  absl::StatusOr<BatchSource> openText(const std::string& text,
                                       Objective objective, int64_t numRows) {
    return open(optionsOf({write("data.jsonl", text)}, objective),
                {.numRows = numRows, .isEvaluation = true});
  }

  /// Returns the build's error.
  std::string buildError(const DataOptions& options) {
    return std::string(buildTokenFile(options).status().message());
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  BuildReport report_;
};

/// Returns all sequences of one pass.
inline TrainingBatch fillAll(const BatchSource& source) {
  TrainingBatch batch;
  EXPECT_EQ(source.fill({.batch = source.numSequences()}, batch),
            absl::OkStatus());
  return batch;
}

} // namespace llmrt::testing
