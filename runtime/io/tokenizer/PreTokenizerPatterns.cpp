// SPDX-License-Identifier: Apache-2.0
// The expressions are those of the models' own tokenizer.json files.
#include "runtime/io/tokenizer/PreTokenizerPatterns.h"

#include "runtime/base/Error.h"

#include <vector>

namespace llmrt {
namespace {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDigitPattern = R"(\p{N})";

const std::vector<NamedPreTokenizer>& namedPreTokenizers() {
  static const auto* table = new std::vector<NamedPreTokenizer>{
      {.name = "gpt-2", .patterns = {kGpt2Pattern}},
      {.name = "llama-bpe",
       .patterns = {kLlama3Pattern},
       .ignoreMerges = true,
       .addsBos = true},
      {.name = "llama3",
       .patterns = {kLlama3Pattern},
       .ignoreMerges = true,
       .addsBos = true},
      {.name = "qwen2", .patterns = {kQwen2Pattern}, .normalizesNfc = true},
      {.name = "smollm", .patterns = {kDigitPattern, kGpt2Pattern}},
      // What converters wrote before they told the families apart.
      {.name = "default",
       .patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)",
                    "[0-9][0-9][0-9]"}},
  };
  return *table;
}

} // namespace

const NamedPreTokenizer* findPreTokenizer(std::string_view name) {
  for (const NamedPreTokenizer& named : namedPreTokenizers())
    if (named.name == name)
      return &named;
  return nullptr;
}

std::string knownPreTokenizers() {
  std::string names;
  for (const NamedPreTokenizer& named : namedPreTokenizers()) {
    if (!names.empty())
      names += ", ";
    names += named.name;
  }
  return names;
}

absl::Status addSplits(const NamedPreTokenizer& named, PreTokenizer& out) {
  for (std::string_view pattern : named.patterns) {
    LLMRT_ASSIGN_OR_RETURN(Regex regex, Regex::compile(pattern));
    out.addSplit(std::move(regex), PreTokenizer::Behavior::Isolated, false);
  }
  return absl::OkStatus();
}

} // namespace llmrt
