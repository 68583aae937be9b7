// SPDX-License-Identifier: Apache-2.0
// The pre-tokenizers that files name but do not write out: GGUF's
// tokenizer.ggml.pre, and the tokenizer class of a vocab.json beside
// merges.txt.
#pragma once

#include "runtime/io/tokenizer/PreTokenizer.h"

#include "absl/status/status.h"

#include <string_view>

namespace llmrt {

/// What follows from a name such as "llama-bpe".
struct NamedPreTokenizer {
  std::string_view name;
  /// Expressions of splits that isolate their matches, one after the other.
  std::vector<std::string_view> patterns = {};
  bool ignoreMerges = false;
  bool addsBos = false;
  bool normalizesNfc = false;
};

/// Returns the entry of `name`, or nullptr.
const NamedPreTokenizer* findPreTokenizer(std::string_view name);

/// Returns the known names, for error messages.
std::string knownPreTokenizers();

/// Adds the splits of `named`.
absl::Status addSplits(const NamedPreTokenizer& named, PreTokenizer& out);

} // namespace llmrt
