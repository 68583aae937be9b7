// SPDX-License-Identifier: Apache-2.0
// Prompts as JSON lines: {"text"}, {"prompt"} or {"messages"}, in the shapes
// that people have. It checks and reads lines; ids and texts are the caller's.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/generation/Request.h"

#include "nlohmann/json.hpp"

#include <string>
#include <vector>

namespace llmrt {

struct ChatTurn {
  std::string role;
  std::string content;
};

/// One line. Exactly one of `text` and `turns` is filled.
struct PromptLine {
  int64_t number = 0; // counts from 1
  std::string text;
  std::vector<ChatTurn> turns;
  nlohmann::ordered_json id; // the line's own "id", else its number
  std::optional<int64_t> maxNewTokens;
  std::optional<float> temperature;
  std::optional<int32_t> topK;
  std::optional<float> topP;
  std::optional<int64_t> seed;
};

class PromptFile {
public:
  /// Maps a file and finds its lines; empty ones are not prompts.
  /// Errors  FileNotReadable.
  static absl::StatusOr<PromptFile> open(const std::string& path);

  /// The same for bytes that outlive the object; `path` is for messages.
  static PromptFile parse(absl::Span<const uint8_t> bytes, std::string path);

  int64_t numPrompts() const { return static_cast<int64_t>(lines_.size()); }

  /// Reads a prompt; `index` counts from 0.
  /// Errors  PromptLineMalformed, with the line's number and what is wrong with
  /// it.
  absl::StatusOr<PromptLine> read(int64_t index) const;

  /// Returns the number of the line of a prompt.
  int64_t lineNumber(int64_t index) const { return lines_[index].number; }

  absl::Span<const uint8_t> bytes() const { return bytes_; }

private:
  struct Line {
    int64_t number;
    int64_t begin;
    int64_t end;
  };

  MappedFile file_; // empty if made by parse()
  absl::Span<const uint8_t> bytes_;
  std::string path_;
  std::vector<Line> lines_;
};

} // namespace llmrt
