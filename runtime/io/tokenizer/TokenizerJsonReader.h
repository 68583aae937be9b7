// SPDX-License-Identifier: Apache-2.0
// Reads a tokenizer.json, or an encoder.json, without building a tree of its
// vocabulary and merges: they are most of its ten megabytes. The rest is a
// small JSON value. What the fields mean is in TokenizerJson.cpp.
#pragma once

#include "absl/status/statusor.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

/// Texts one after the other in one string.
class TextList {
public:
  void add(std::string_view text) {
    texts_ += text;
    ends_.push_back(texts_.size());
  }

  size_t size() const { return ends_.size(); }

  std::string_view operator[](size_t i) const {
    size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(texts_).substr(begin, ends_[i] - begin);
  }

private:
  std::string texts_;
  std::vector<size_t> ends_;
};

struct TokenizerDocument {
  /// The file without the members below.
  nlohmann::json fields;

  struct Vocabulary {
    TextList tokens;
    std::vector<int64_t> ids;
  };

  /// model.vocab of a tokenizer.json.
  Vocabulary modelVocabulary;
  bool hasModelVocabulary = false; // model.vocab is an object
  /// The whole of an encoder.json.
  Vocabulary encoder;
  /// model.merges: two texts for each, or one "left right".
  TextList merges;
  bool mergesArePairs = false;
};

/// Reads the document.
/// Errors  TokenizerCorrupt with the offset.
absl::StatusOr<TokenizerDocument> readTokenizerDocument(std::string_view text);

} // namespace llmrt
