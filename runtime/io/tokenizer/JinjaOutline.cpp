// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/JinjaOutline.h"

#include <algorithm>

namespace llmrt {
namespace {

bool isSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// Appends the inside of a tag without white space outside literals.
void appendCode(std::string_view code, std::string& out) {
  char quote = 0;
  for (size_t i = 0; i < code.size(); ++i) {
    char c = code[i];
    if (quote == 0) {
      if (c == '\'' || c == '"') {
        quote = c;
        out += '\'';
      } else if (!isSpace(c)) {
        out += c;
      }
      continue;
    }
    if (c == '\\' && i + 1 < code.size()) {
      (out += c) += code[++i];
    } else if (c == quote) {
      quote = 0;
      out += '\'';
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
}

// Returns the end of the tag that begins at `begin`, or npos.
size_t findTagEnd(std::string_view jinja, size_t begin) {
  std::string_view close = jinja[begin + 1] == '{'   ? "}}"
                           : jinja[begin + 1] == '%' ? "%}"
                                                     : "#}";
  char quote = 0;
  for (size_t i = begin + 2; i + 1 < jinja.size(); ++i) {
    char c = jinja[i];
    if (close != "#}" && quote != 0) {
      if (c == '\\')
        ++i;
      else if (c == quote)
        quote = 0;
      continue;
    }
    if (close != "#}" && (c == '\'' || c == '"'))
      quote = c;
    else if (jinja.substr(i, 2) == close)
      return i + 2;
  }
  return std::string_view::npos;
}

size_t findTag(std::string_view jinja, size_t from) {
  for (size_t i = jinja.find('{', from); i < jinja.size() - 1;
       i = jinja.find('{', i + 1))
    if (jinja[i + 1] == '{' || jinja[i + 1] == '%' || jinja[i + 1] == '#')
      return i;
  return std::string_view::npos;
}

void replaceAll(std::string_view from, std::string_view to, std::string& text) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
       at += to.size())
    text.replace(at, from.size(), to);
}

} // namespace

JinjaOutline outlineJinja(std::string_view jinja) {
  JinjaOutline outline;
  // Jinja drops one line feed at the end of a template.
  if (jinja.ends_with('\n'))
    jinja.remove_suffix(1);
  bool trimsAll = false;     // the tag before ended with a minus
  bool trimsNewline = false; // it was a block
  for (size_t at = 0; at < jinja.size() || at == 0;) {
    size_t tag = jinja.empty() ? std::string_view::npos : findTag(jinja, at);
    size_t end = tag == std::string_view::npos ? tag : findTagEnd(jinja, tag);
    std::string_view plain = jinja.substr(
        at,
        std::min(end == std::string_view::npos ? end : tag, jinja.size()) - at);
    if (trimsAll)
      while (!plain.empty() && isSpace(plain.front()))
        plain.remove_prefix(1);
    else if (trimsNewline && plain.starts_with('\n'))
      plain.remove_prefix(1);
    if (end == std::string_view::npos) {
      outline.text += plain;
      outline.hasPlainText |= !plain.empty();
      break;
    }
    bool isBlock = jinja[tag + 1] != '{';
    std::string_view code = jinja.substr(tag + 2, end - tag - 4);
    bool startsWithMinus = code.starts_with('-');
    if (startsWithMinus) {
      while (!plain.empty() && isSpace(plain.back()))
        plain.remove_suffix(1);
    } else if (isBlock) {
      // Spaces between the line's beginning and a block are dropped.
      size_t line = plain.find_last_not_of(" \t");
      bool isAtLineStart = line == std::string_view::npos
                               ? at == 0 || trimsNewline || trimsAll
                               : plain[line] == '\n';
      if (isAtLineStart)
        plain = plain.substr(0, line == std::string_view::npos ? 0 : line + 1);
    }
    outline.text += plain;
    outline.hasPlainText |= !plain.empty();
    trimsAll = code.ends_with('-');
    trimsNewline = isBlock;
    code.remove_prefix(startsWithMinus ? 1 : 0);
    code.remove_suffix(trimsAll && !code.empty() ? 1 : 0);
    if (jinja[tag + 1] != '#') {
      outline.text += jinja.substr(tag, 2);
      appendCode(code, outline.text);
      outline.text += isBlock ? "%}" : "}}";
    }
    at = end;
  }
  replaceAll(".role", "['role']", outline.text);
  replaceAll(".content", "['content']", outline.text);
  return outline;
}

} // namespace llmrt
