// SPDX-License-Identifier: Apache-2.0
// Cuts a normalised text into the words that merges never cross, by the steps
// that a tokenizer file lists. Pieces are views; a step that changes text keeps
// its new text in the storage that the caller lends.
#pragma once

#include "runtime/io/tokenizer/Regex.h"

#include "absl/status/status.h"

#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace llmrt {

/// GPT-2's expression, which byte-level files use without writing it.
extern const std::string_view kGpt2Pattern;

class PreTokenizer {
public:
  /// What happens to the text that a split's expression matches.
  enum class Behavior {
    Isolated,           // a piece of its own
    Removed,            // gone
    MergedWithPrevious, // joined to the piece before it
    MergedWithNext,     // joined to the piece after it
    Contiguous,         // a piece together with matches that touch it
  };
  enum class Prepend { Never, First, Always };

  /// `inverts`: what does not match is treated as the match.
  void addSplit(Regex pattern, Behavior behavior, bool inverts);
  /// Puts a space before each piece that does not start with one.
  void addPrefixSpace();
  /// Turns spaces into `marker`, and puts one before pieces as `prepend` says;
  /// `splits`: cuts before each marker.
  void addMetaspace(std::string marker, Prepend prepend, bool splits,
                    Regex markerPattern);

  bool empty() const { return steps_.empty(); }

  struct Scratch {
    std::deque<std::string> texts; // changed texts that pieces view
    std::vector<std::string_view> pieces;
    std::vector<std::string_view> before;
  };

  /// Sets scratch.pieces to the pieces of `text`. `isFirst`: the text stands at
  /// the beginning of what is encoded. Errors  PreTokenizerFailed.
  absl::Status apply(std::string_view text, bool isFirst,
                     Scratch& scratch) const;

private:
  enum class Kind { Split, PrefixSpace, Metaspace };

  struct Step {
    Kind kind = Kind::Split;
    std::vector<Regex>
        pattern; // one, of a Split and of a Metaspace that splits
    Behavior behavior = Behavior::Isolated;
    bool inverts = false;
    bool splits = true;
    std::string marker;
    Prepend prepend = Prepend::Never;
  };

  static absl::Status split(const Step& step, Scratch& scratch);
  static void markSpaces(const Step& step, bool isFirst, Scratch& scratch);
  std::vector<Step> steps_;
};

} // namespace llmrt
