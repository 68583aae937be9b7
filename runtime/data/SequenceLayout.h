// SPDX-License-Identifier: Apache-2.0
// Which tokens make up which sequence: a stream that is cut (pretrain), whole
// samples packed together (sft), or one answer each (dpo). The same on every
// rank and in every epoch; their order is BatchSource's.
#pragma once

#include "runtime/data/TokenFile.h"

#include <cstdint>
#include <vector>

namespace llmrt {

/// Rows of one document in a sequence, or a part of it.
struct Segment {
  int64_t document = 0;
  int64_t tokenBegin = 0;
  int64_t tokenEnd = 0;
};

/// What the layout left out, and what it has.
struct LayoutCounts {
  int64_t numTruncated = 0;       // samples longer than a sequence
  int64_t numTruncatedTokens = 0; // the tokens they lost
  int64_t numDropped = 0;         // samples (dpo: pairs) without counted rows
  int64_t numCounted = 0;         // labels of an epoch
};

class SequenceLayout {
public:
  /// `file` must outlive the object. `numRows`: rows of a sequence, R.
  static SequenceLayout create(const TokenFile& file, int64_t numRows);

  int64_t numSequences() const { return numSequences_; }

  /// Sets `segments` to those of a sequence, in order; together at most R rows.
  /// The token behind a segment is its last row's label if it belongs to the
  /// same document.
  void findSegments(int64_t sequence, std::vector<Segment>& segments) const;

  const LayoutCounts& counts() const { return counts_; }

private:
  SequenceLayout(const TokenFile& file, int64_t numRows)
      : file_(&file), numRows_(numRows) {}

  void cutStream();
  void packSamples();
  void listPairs();
  int64_t truncate(int64_t document);
  int64_t countLabels(int64_t tokenBegin, int64_t numRows,
                      int64_t tokenEnd) const;
  Segment wholeDocument(int64_t document) const;

  const TokenFile* file_;
  int64_t numRows_;
  int64_t numSequences_ = 0;
  LayoutCounts counts_;
  // sft: documents by sequence; sequence i has those from sequenceBegins_[i]
  // on. dpo: the chosen documents of the pairs.
  std::vector<int64_t> documents_;
  std::vector<int64_t> sequenceBegins_;
};

} // namespace llmrt
