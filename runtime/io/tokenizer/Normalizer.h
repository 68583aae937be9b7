// SPDX-License-Identifier: Apache-2.0
// What happens to a text before it is cut into words: Unicode normal forms (by
// utf8proc), and the replacements of SentencePiece-like vocabularies.
#pragma once

#include "runtime/io/tokenizer/Regex.h"

#include "absl/status/statusor.h"

#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

class Normalizer {
public:
  enum class Form { Nfc, Nfd, Nfkc, Nfkd };

  void addForm(Form form);
  /// Puts `text` before every text that is not empty.
  void addPrepend(std::string text);
  void addReplace(Regex pattern, std::string replacement);
  /// Removes white space at the ends.
  void addStrip(bool left, bool right);

  bool empty() const { return steps_.empty(); }

  /// Returns the normalised text. `text` is valid UTF-8.
  /// Errors  PreTokenizerFailed.
  absl::StatusOr<std::string> apply(std::string_view text) const;

private:
  enum class Kind { Form, Prepend, Replace, Strip };

  struct Step {
    Kind kind = Kind::Form;
    Form form = Form::Nfc;
    std::string text;
    std::vector<Regex> pattern; // one, of a Replace
    bool stripsLeft = false;
    bool stripsRight = false;
  };

  absl::Status applyStep(const Step& step, std::string& text) const;
  std::vector<Step> steps_;
};

} // namespace llmrt
