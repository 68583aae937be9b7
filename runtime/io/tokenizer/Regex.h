// SPDX-License-Identifier: Apache-2.0
// A Unicode regular expression as tokenizer files write it (Oniguruma's
// syntax), compiled by PCRE2. Not a general wrapper: it only walks the matches
// of a text.
#pragma once

#include "absl/status/statusor.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace llmrt {

/// A half-open range of bytes.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

class Regex {
public:
  /// Compiles `pattern`. `\s` and `\S` mean the White_Space property, as in
  /// Oniguruma and Rust: PCRE2's own also take U+180E.
  /// Errors  TokenizerUnsupported with the pattern and PCRE2's words.
  static absl::StatusOr<Regex> compile(std::string_view pattern);

  /// Compiles an expression that matches `literal` itself.
  static absl::StatusOr<Regex> compileLiteral(std::string_view literal);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  const std::string& pattern() const { return pattern_; }

private:
  friend class RegexMatcher;
  struct Code;
  Regex();
  static absl::StatusOr<Regex> compileWith(std::string_view pattern,
                                           unsigned options);
  std::unique_ptr<Code> code_;
  std::string pattern_;
};

/// The scratch memory of matching; made once for many texts, by one thread.
class RegexMatcher {
public:
  explicit RegexMatcher(const Regex& regex);
  ~RegexMatcher();
  RegexMatcher(const RegexMatcher&) = delete;

  /// Finds the first match at or after `offset` in `text`, which is valid
  /// UTF-8. Returns false if there is none. Errors  PreTokenizerFailed if the
  /// expression backtracks without end.
  absl::StatusOr<bool> find(std::string_view text, size_t offset,
                            TextRange& match);

private:
  const Regex& regex_;
  void* matchData_ = nullptr;
  void* matchContext_ = nullptr;
  void* jitStack_ = nullptr;
};

} // namespace llmrt
