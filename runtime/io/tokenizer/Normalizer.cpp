// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/Normalizer.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/Utf8.h"

#include <algorithm>
#include <utf8proc.h>

namespace llmrt {
namespace {

// The longest decomposition of one character has 18 (U+FDFA, in compatibility
// forms).
constexpr utf8proc_ssize_t kMaxDecomposition = 32;

// Below U+0300 every character is its own NFC form, and none combines with one
// before it.
bool isSurelyNfc(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0xCC; });
}

// Decomposes `text` and puts its combining marks in canonical order. utf8proc's
// own ordering takes quadratic time on a long run of marks.
void decompose(std::string_view text, utf8proc_option_t options,
               std::vector<utf8proc_int32_t>& out) {
  auto combiningClass = [](utf8proc_int32_t c) {
    return utf8proc_get_property(c)->combining_class;
  };
  size_t runBegin = 0; // after the last character that is no mark
  auto orderRun = [&] {
    std::stable_sort(out.begin() + runBegin, out.end(),
                     [&](utf8proc_int32_t a, utf8proc_int32_t b) {
                       return combiningClass(a) < combiningClass(b);
                     });
  };
  while (!text.empty()) {
    Utf8Step step = readUtf8(text);
    text.remove_prefix(step.sizeBytes);
    utf8proc_int32_t parts[kMaxDecomposition];
    int boundClass = 0;
    utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.codePoint),
                                parts, kMaxDecomposition, options, &boundClass);
    for (utf8proc_ssize_t i = 0; i < std::min(count, kMaxDecomposition); ++i) {
      bool isMark = combiningClass(parts[i]) != 0;
      if (!isMark)
        orderRun();
      out.push_back(parts[i]);
      if (!isMark)
        runBegin = out.size();
    }
  }
  orderRun();
}

void normalise(Normalizer::Form form, std::string& text) {
  if (form == Normalizer::Form::Nfc && isSurelyNfc(text))
    return;
  bool composes =
      form == Normalizer::Form::Nfc || form == Normalizer::Form::Nfkc;
  bool isCompatible =
      form == Normalizer::Form::Nfkc || form == Normalizer::Form::Nfkd;
  auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (isCompatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  decompose(text, options, characters);
  utf8proc_ssize_t count = utf8proc_normalize_utf32(
      characters.data(), static_cast<utf8proc_ssize_t>(characters.size()),
      options);
  text.clear();
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    appendUtf8(static_cast<char32_t>(characters[i]), text);
}

absl::Status replaceAll(const Regex& pattern, std::string_view replacement,
                        std::string& text) {
  RegexMatcher matcher(pattern);
  std::string out;
  size_t copied = 0;
  size_t offset = 0;
  TextRange match;
  while (offset <= text.size()) {
    LLMRT_ASSIGN_OR_RETURN(bool isFound, matcher.find(text, offset, match));
    if (!isFound)
      break;
    out.append(text, copied, match.begin - copied);
    out += replacement;
    copied = match.end;
    offset = match.end;
    if (match.begin == match.end)
      offset += offset < text.size() ? utf8SizeBytes(text[offset]) : 1;
  }
  if (copied == 0 && out.empty())
    return absl::OkStatus();
  out.append(text, copied, std::string::npos);
  text = std::move(out);
  return absl::OkStatus();
}

void stripWhiteSpace(bool left, bool right, std::string& text) {
  auto isSpaceAt = [&](size_t at) {
    return isWhiteSpace(readUtf8(std::string_view(text).substr(at)).codePoint);
  };
  size_t begin = 0;
  size_t end = text.size();
  while (left && begin < end && isSpaceAt(begin))
    begin += utf8SizeBytes(text[begin]);
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80)
      --last;
    if (!isSpaceAt(last))
      break;
    end = last;
  }
  text = text.substr(begin, end - begin);
}

} // namespace

void Normalizer::addForm(Form form) {
  Step& step = steps_.emplace_back();
  step.form = form;
}

void Normalizer::addPrepend(std::string text) {
  Step& step = steps_.emplace_back();
  step.kind = Kind::Prepend;
  step.text = std::move(text);
}

void Normalizer::addReplace(Regex pattern, std::string replacement) {
  Step& step = steps_.emplace_back();
  step.kind = Kind::Replace;
  step.pattern.push_back(std::move(pattern));
  step.text = std::move(replacement);
}

void Normalizer::addStrip(bool left, bool right) {
  Step& step = steps_.emplace_back();
  step.kind = Kind::Strip;
  step.stripsLeft = left;
  step.stripsRight = right;
}

absl::Status Normalizer::applyStep(const Step& step, std::string& text) const {
  switch (step.kind) {
  case Kind::Form:
    normalise(step.form, text);
    return absl::OkStatus();
  case Kind::Prepend:
    if (!text.empty())
      text.insert(0, step.text);
    return absl::OkStatus();
  case Kind::Replace:
    return replaceAll(step.pattern.front(), step.text, text);
  case Kind::Strip:
    stripWhiteSpace(step.stripsLeft, step.stripsRight, text);
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_)
    LLMRT_RETURN_IF_ERROR(applyStep(step, out));
  return out;
}

} // namespace llmrt
