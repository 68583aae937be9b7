// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/SequenceLayout.h"

#include <algorithm>

namespace llmrt {
namespace {

// Sequences that still take samples while packing. More find a better place for
// short ones and cost time for each sample.
constexpr size_t kMaxOpen = 64;

struct OpenSequence {
  int64_t sequence = 0;
  int64_t numFree = 0;
};

// Returns the place of the sample: first fit, in file order. Where too many
// sequences are open, the fullest is closed.
int64_t placeSample(int64_t numRows, int64_t numRowsOfSequence,
                    std::vector<OpenSequence>& open, int64_t& numSequences) {
  for (size_t i = 0; i < open.size(); ++i) {
    if (open[i].numFree < numRows)
      continue;
    int64_t sequence = open[i].sequence;
    open[i].numFree -= numRows;
    if (open[i].numFree == 0)
      open.erase(open.begin() + static_cast<int64_t>(i));
    return sequence;
  }
  if (open.size() == kMaxOpen)
    open.erase(
        std::min_element(open.begin(), open.end(),
                         [](const OpenSequence& a, const OpenSequence& b) {
                           return a.numFree < b.numFree;
                         }));
  if (numRows < numRowsOfSequence)
    open.push_back({numSequences, numRowsOfSequence - numRows});
  return numSequences++;
}

} // namespace

SequenceLayout SequenceLayout::create(const TokenFile& file, int64_t numRows) {
  SequenceLayout layout(file, numRows);
  switch (file.objective()) {
  case Objective::Pretrain:
    layout.cutStream();
    break;
  case Objective::Sft:
    layout.packSamples();
    break;
  case Objective::Dpo:
    layout.listPairs();
    break;
  }
  return layout;
}

// The last token of the stream predicts nothing: it gets no sequence of its
// own.
void SequenceLayout::cutStream() {
  counts_.numCounted = file_->numTokens() - file_->numDocuments();
  if (counts_.numCounted > 0)
    numSequences_ = (file_->numTokens() - 1 + numRows_ - 1) / numRows_;
}

void SequenceLayout::packSamples() {
  std::vector<int64_t> sequenceOf(file_->numDocuments(), -1);
  std::vector<OpenSequence> open;
  for (int64_t i = 0; i < file_->numDocuments(); ++i) {
    int64_t numCounted = truncate(i);
    counts_.numDropped += numCounted == 0;
    counts_.numCounted += numCounted;
    if (numCounted > 0) {
      Segment whole = wholeDocument(i);
      sequenceOf[i] = placeSample(whole.tokenEnd - whole.tokenBegin, numRows_,
                                  open, numSequences_);
    }
  }
  sequenceBegins_.assign(numSequences_ + 1, 0);
  for (int64_t sequence : sequenceOf)
    if (sequence >= 0)
      ++sequenceBegins_[sequence + 1];
  for (int64_t i = 0; i < numSequences_; ++i)
    sequenceBegins_[i + 1] += sequenceBegins_[i];
  documents_.resize(sequenceBegins_.back());
  std::vector<int64_t> next(sequenceBegins_.begin(), sequenceBegins_.end());
  for (int64_t i = 0; i < file_->numDocuments(); ++i)
    if (sequenceOf[i] >= 0)
      documents_[next[sequenceOf[i]]++] = i;
}

void SequenceLayout::listPairs() {
  for (int64_t chosen = 0; chosen < file_->numDocuments(); chosen += 2) {
    int64_t numChosen = truncate(chosen), numRejected = truncate(chosen + 1);
    if (numChosen == 0 || numRejected == 0) {
      ++counts_.numDropped;
      continue;
    }
    counts_.numCounted += numChosen + numRejected;
    documents_.push_back(chosen);
  }
  numSequences_ = 2 * static_cast<int64_t>(documents_.size());
}

// Counts what a sample loses and returns the labels that it keeps. A sample of
// R + 1 tokens loses nothing: its last token is only ever a label.
int64_t SequenceLayout::truncate(int64_t document) {
  Segment whole = wholeDocument(document);
  int64_t end = file_->documentBegin(document + 1);
  int64_t numLost = end - whole.tokenEnd - 1;
  if (numLost > 0) {
    ++counts_.numTruncated;
    counts_.numTruncatedTokens += numLost;
  }
  return countLabels(whole.tokenBegin, whole.tokenEnd - whole.tokenBegin, end);
}

int64_t SequenceLayout::countLabels(int64_t tokenBegin, int64_t numRows,
                                    int64_t tokenEnd) const {
  int64_t count = 0;
  int64_t last = std::min(tokenBegin + numRows, tokenEnd - 1);
  for (int64_t i = tokenBegin + 1; i <= last; ++i)
    count += file_->isCounted(i);
  return count;
}

Segment SequenceLayout::wholeDocument(int64_t document) const {
  int64_t begin = file_->documentBegin(document);
  return {document, begin,
          std::min(begin + numRows_, file_->documentBegin(document + 1))};
}

void SequenceLayout::findSegments(int64_t sequence,
                                  std::vector<Segment>& segments) const {
  segments.clear();
  if (file_->objective() == Objective::Dpo) {
    segments.push_back(wholeDocument(documents_[sequence / 2] + sequence % 2));
    return;
  }
  if (file_->objective() == Objective::Sft) {
    for (int64_t i = sequenceBegins_[sequence];
         i < sequenceBegins_[sequence + 1]; ++i)
      segments.push_back(wholeDocument(documents_[i]));
    return;
  }
  int64_t begin = sequence * numRows_;
  int64_t end = std::min(begin + numRows_, file_->numTokens());
  for (int64_t document = file_->findDocument(begin); begin < end; ++document) {
    int64_t documentEnd = std::min(end, file_->documentBegin(document + 1));
    segments.push_back({document, begin, documentEnd});
    begin = documentEnd;
  }
}

} // namespace llmrt
