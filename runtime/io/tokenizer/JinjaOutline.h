// SPDX-License-Identifier: Apache-2.0
// The text of a Jinja template in one canonical spelling, for recognising it.
// It evaluates nothing.
#pragma once

#include <string>
#include <string_view>

namespace llmrt {

struct JinjaOutline {
  /// The tags, "{{..}}" and "{%..%}", without white space outside string
  /// literals, with single quotes, a line feed inside a literal as \n, and
  /// x.role as x['role']; between them the text that the template writes as it
  /// stands.
  std::string text;
  /// The template writes text outside its tags.
  bool hasPlainText = false;
};

/// Makes the outline of a template, with the white space rules of transformers:
/// trim_blocks and lstrip_blocks.
JinjaOutline outlineJinja(std::string_view jinja);

} // namespace llmrt
