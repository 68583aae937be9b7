// SPDX-License-Identifier: Apache-2.0
// Debian's libsentencepiece behind a header of our own: its header and Abseil's
// cannot be included together, both define absl::string_view.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace llmrt {

class SentencePieceOracle {
public:
  /// Loads a serialised model; null if the library refuses it.
  static std::unique_ptr<SentencePieceOracle> load(const std::string& model);
  virtual ~SentencePieceOracle() = default;

  virtual int sizePieces() const = 0;
  virtual std::vector<int> encode(const std::string& text) const = 0;
  virtual std::string decode(const std::vector<int>& ids) const = 0;
};

} // namespace llmrt
