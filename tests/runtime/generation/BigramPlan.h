// SPDX-License-Identifier: Apache-2.0
// A real plan without a compiler: logits = embedding(id) * head^T, the next
// token drawn from them. It knows only the last token, but runs every entry on
// every mesh.
#pragma once

#include "tests/plan/PlanBuilder.h"

namespace llmrt::test {

inline constexpr int64_t kBigramVocab = 257; // the bytes, and an end
inline constexpr int64_t kBigramChunk = 8;

struct BigramShape {
  std::vector<std::pair<std::string, int>> axes = {{"tp", 1}};
  int64_t batch = 2;
  int64_t cacheTokens = 4096;
  std::string tokenizer = {}; // relative to the plan
  std::string source = {};
};

PlanBuilder bigramModel(const BigramShape& shape);

/// Returns a tokenizer.json with one token for each byte and <|end|>.
std::string byteTokenizerJson();

} // namespace llmrt::test
