// SPDX-License-Identifier: Apache-2.0
// Text to ids by Debian's libsentencepiece. Without Abseil: its header and that
// of the library cannot be included together, both define absl::string_view.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

class SentencePieceEncoder {
public:
  /// False in a build without the library (the preset `portable`, as Debian has
  /// no static one).
  static bool isAvailable();

  /// Loads a serialised tokenizer.model. Null if the library refuses it; `why`
  /// is then what it says.
  static std::unique_ptr<SentencePieceEncoder> load(std::string_view model,
                                                    std::string& why);

  virtual ~SentencePieceEncoder() = default;

  /// Appends the ids of a text, valid UTF-8, to `ids`. May be called by several
  /// threads. Returns what the library says if it fails, else "".
  virtual std::string encode(std::string_view text,
                             std::vector<int32_t>& ids) const = 0;
};

} // namespace llmrt
