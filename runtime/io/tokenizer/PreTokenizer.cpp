// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/tokenizer/PreTokenizer.h"

#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/Utf8.h"

namespace llmrt {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

struct Cut {
  TextRange range;
  bool isMatch = false;
};

// Lists the matches of a text and what lies between them, in order.
absl::Status listCuts(RegexMatcher& matcher, std::string_view text,
                      bool inverts, std::vector<Cut>& cuts) {
  cuts.clear();
  size_t done = 0;
  size_t offset = 0;
  TextRange match;
  while (offset < text.size()) {
    LLMRT_ASSIGN_OR_RETURN(bool isFound, matcher.find(text, offset, match));
    if (!isFound)
      break;
    if (match.begin > done)
      cuts.push_back({{done, match.begin}, inverts});
    if (match.end > match.begin)
      cuts.push_back({match, !inverts});
    done = match.end;
    offset = match.end;
    // An empty match cuts, and the search goes on after the next character.
    if (match.end == match.begin && offset < text.size())
      offset += utf8SizeBytes(text[offset]);
  }
  if (done < text.size())
    cuts.push_back({{done, text.size()}, inverts});
  return absl::OkStatus();
}

// Joins the cuts of one text into pieces.
void joinCuts(PreTokenizer::Behavior behavior, std::string_view text,
              const std::vector<Cut>& cuts,
              std::vector<std::string_view>& pieces) {
  using Behavior = PreTokenizer::Behavior;
  bool isOpen = false; // the last piece may still grow
  bool wasMatch = false;
  TextRange piece;
  auto flush = [&] {
    if (isOpen)
      pieces.push_back(text.substr(piece.begin, piece.end - piece.begin));
    isOpen = false;
  };
  for (const Cut& cut : cuts) {
    bool joins = false;
    switch (behavior) {
    case Behavior::Isolated:
      break;
    case Behavior::Removed:
      if (cut.isMatch) {
        flush();
        continue;
      }
      break;
    case Behavior::MergedWithPrevious:
      joins = cut.isMatch && !wasMatch;
      break;
    case Behavior::MergedWithNext:
      joins = !cut.isMatch && wasMatch;
      break;
    case Behavior::Contiguous:
      joins = cut.isMatch == wasMatch;
      break;
    }
    if (isOpen && joins) {
      piece.end = cut.range.end;
    } else {
      flush();
      piece = cut.range;
      isOpen = true;
    }
    wasMatch = cut.isMatch;
  }
  flush();
}

} // namespace

void PreTokenizer::addSplit(Regex pattern, Behavior behavior, bool inverts) {
  Step& step = steps_.emplace_back();
  step.pattern.push_back(std::move(pattern));
  step.behavior = behavior;
  step.inverts = inverts;
}

void PreTokenizer::addPrefixSpace() {
  steps_.emplace_back().kind = Kind::PrefixSpace;
}

void PreTokenizer::addMetaspace(std::string marker, Prepend prepend,
                                bool splits, Regex markerPattern) {
  Step& step = steps_.emplace_back();
  step.kind = Kind::Metaspace;
  step.marker = std::move(marker);
  step.prepend = prepend;
  step.splits = splits;
  step.behavior = Behavior::MergedWithNext;
  step.pattern.push_back(std::move(markerPattern));
}

absl::Status PreTokenizer::split(const Step& step, Scratch& scratch) {
  scratch.before.swap(scratch.pieces);
  scratch.pieces.clear();
  RegexMatcher matcher(step.pattern.front());
  std::vector<Cut> cuts;
  for (std::string_view text : scratch.before) {
    LLMRT_RETURN_IF_ERROR(listCuts(matcher, text, step.inverts, cuts));
    joinCuts(step.behavior, text, cuts, scratch.pieces);
  }
  return absl::OkStatus();
}

void PreTokenizer::markSpaces(const Step& step, bool isFirst,
                              Scratch& scratch) {
  for (size_t i = 0; i < scratch.pieces.size(); ++i) {
    std::string& changed = scratch.texts.emplace_back();
    for (char c : scratch.pieces[i])
      if (c == ' ')
        changed += step.marker;
      else
        changed += c;
    bool prepends = step.prepend == Prepend::Always ||
                    (step.prepend == Prepend::First && isFirst && i == 0);
    if (prepends && !changed.starts_with(step.marker))
      changed.insert(0, step.marker);
    scratch.pieces[i] = changed;
  }
}

absl::Status PreTokenizer::apply(std::string_view text, bool isFirst,
                                 Scratch& scratch) const {
  scratch.pieces.clear();
  if (!text.empty())
    scratch.pieces.push_back(text);
  for (const Step& step : steps_) {
    switch (step.kind) {
    case Kind::Split:
      LLMRT_RETURN_IF_ERROR(split(step, scratch));
      break;
    case Kind::PrefixSpace:
      for (std::string_view& piece : scratch.pieces)
        if (!piece.starts_with(' '))
          piece = scratch.texts.emplace_back(" ").append(piece);
      break;
    case Kind::Metaspace:
      markSpaces(step, isFirst, scratch);
      if (step.splits)
        LLMRT_RETURN_IF_ERROR(split(step, scratch));
      break;
    }
  }
  return absl::OkStatus();
}

} // namespace llmrt
