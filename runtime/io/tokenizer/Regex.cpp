// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/Regex.h"

#include "runtime/base/Error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace llmrt {
namespace {

// Tokenizer expressions have a few hundred bytes.
constexpr size_t kMaxPatternBytes = 1 << 16;
// Steps of one match before the expression is given up.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr size_t kJitStackStartBytes = 32 << 10;
constexpr size_t kJitStackMaxBytes = 8 << 20;

// The White_Space property, to stand inside a class.
constexpr std::string_view kWhiteSpace =
    R"(\x09-\x0D\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Rewrites \s and \S to the White_Space property. A \S inside a class stays
// PCRE2's own: it cannot be written as a list, and differs in U+180E only. Sets
// hasIntersection if a class uses Oniguruma's &&.
std::string translate(std::string_view pattern, bool& hasIntersection) {
  std::string out;
  hasIntersection = false;
  bool isInClass = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      char next = pattern[++i];
      if (next == 's' && isInClass)
        out += kWhiteSpace;
      else if (next == 's' || (next == 'S' && !isInClass))
        absl::StrAppend(
            &out, next == 's' ? "[" : "[^",
            absl::string_view(kWhiteSpace.data(), kWhiteSpace.size()), "]");
      else
        (out += c) += next;
      continue;
    }
    if (isInClass && c == '&' && pattern.substr(i, 2) == "&&")
      hasIntersection = true;
    if (c == '[' && !isInClass) {
      isInClass = true;
      out += c;
      // A ] that comes first is an ordinary character.
      if (pattern.substr(i + 1, 1) == "^")
        out += pattern[++i];
      if (pattern.substr(i + 1, 1) == "]")
        out += pattern[++i];
      continue;
    }
    if (c == ']')
      isInClass = false;
    out += c;
  }
  return out;
}

} // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;

  ~Code() { pcre2_code_free(code); }
};

Regex::Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

absl::StatusOr<Regex> Regex::compileWith(std::string_view pattern,
                                         unsigned options) {
  auto refuse = [&](std::string_view why) {
    return makeError(
        ErrorCode::TokenizerUnsupported,
        absl::StrCat("a regular expression of the tokenizer cannot be used: ",
                     absl::string_view(why.data(), why.size()), ": ",
                     absl::string_view(pattern.data(),
                                       std::min<size_t>(pattern.size(), 300))),
        "use a tokenizer of a supported family");
  };
  if (pattern.size() > kMaxPatternBytes)
    return refuse("longer than 64 KiB");
  int errorNumber = 0;
  PCRE2_SIZE errorOffset = 0;
  Regex regex;
  regex.pattern_ = std::string(pattern);
  regex.code_ = std::make_unique<Code>();
  regex.code_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
      options | PCRE2_UTF, &errorNumber, &errorOffset, nullptr);
  if (!regex.code_->code) {
    char words[256] = {};
    pcre2_get_error_message(errorNumber, reinterpret_cast<PCRE2_UCHAR*>(words),
                            sizeof(words));
    return refuse(words);
  }
  // Where the just-in-time compiler is not to be had, the interpreter runs:
  // slower, the same matches.
  pcre2_jit_compile(regex.code_->code, PCRE2_JIT_COMPLETE);
  return regex;
}

absl::StatusOr<Regex> Regex::compile(std::string_view pattern) {
  bool hasIntersection = false;
  std::string translated = translate(pattern, hasIntersection);
  if (hasIntersection)
    return makeError(
        ErrorCode::TokenizerUnsupported,
        absl::StrCat("a regular expression of the tokenizer uses "
                     "&& inside a class: ",
                     absl::string_view(pattern.data(), pattern.size())),
        "use a tokenizer of a supported family");
  return compileWith(translated, PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
}

absl::StatusOr<Regex> Regex::compileLiteral(std::string_view literal) {
  return compileWith(literal, PCRE2_LITERAL);
}

RegexMatcher::RegexMatcher(const Regex& regex) : regex_(regex) {
  auto* data = pcre2_match_data_create(1, nullptr);
  auto* context = pcre2_match_context_create(nullptr);
  auto* stack =
      pcre2_jit_stack_create(kJitStackStartBytes, kJitStackMaxBytes, nullptr);
  if (context) {
    pcre2_set_match_limit(context, kMatchLimit);
    if (stack)
      pcre2_jit_stack_assign(context, nullptr, stack);
  }
  matchData_ = data;
  matchContext_ = context;
  jitStack_ = stack;
}

RegexMatcher::~RegexMatcher() {
  pcre2_match_data_free(static_cast<pcre2_match_data*>(matchData_));
  pcre2_match_context_free(static_cast<pcre2_match_context*>(matchContext_));
  pcre2_jit_stack_free(static_cast<pcre2_jit_stack*>(jitStack_));
}

absl::StatusOr<bool> RegexMatcher::find(std::string_view text, size_t offset,
                                        TextRange& match) {
  int found = PCRE2_ERROR_NOMEMORY;
  if (matchData_)
    found = pcre2_match(regex_.code_->code,
                        reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                        offset, PCRE2_NO_UTF_CHECK,
                        static_cast<pcre2_match_data*>(matchData_),
                        static_cast<pcre2_match_context*>(matchContext_));
  if (found == PCRE2_ERROR_NOMATCH)
    return false;
  if (found < 0) {
    char words[256] = {};
    pcre2_get_error_message(found, reinterpret_cast<PCRE2_UCHAR*>(words),
                            sizeof(words));
    return makeError(ErrorCode::PreTokenizerFailed,
                     absl::StrCat("splitting the text failed: ", words, ": ",
                                  regex_.pattern_),
                     "split the text into smaller parts");
  }
  const PCRE2_SIZE* range =
      pcre2_get_ovector_pointer(static_cast<pcre2_match_data*>(matchData_));
  // \K can put the start after the end, or before the offset.
  match = {std::max<size_t>(range[0], offset), std::max(range[0], range[1])};
  match.end = std::max(match.begin, match.end);
  return true;
}

} // namespace llmrt
