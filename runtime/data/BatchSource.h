// SPDX-License-Identifier: Apache-2.0
// Training data as the inputs of micro-batches (docs/design/training.md). What
// a batch holds depends on seed and data position alone: not on ranks, threads
// or what was asked before.
#pragma once

#include "runtime/data/SequenceLayout.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llmrt {

/// A label that is not counted.
inline constexpr int32_t kIgnoredLabel = -100;

/// The inputs of one micro-batch, each [S, R] row-major. Rows that hold no
/// token are documents of their own: id 0, position 0, label -100.
struct TrainingBatch {
  int64_t numSequences = 0; // S
  int64_t numRows = 0;      // R
  std::vector<int32_t> ids;
  std::vector<int32_t> positions; // inside the document
  std::vector<int32_t> starts;    // first row of the row's document
  std::vector<int32_t> labels;    // the token to predict, or kIgnoredLabel
  /// [S]: number in the layout, the same in every epoch; -1: padding.
  std::vector<int64_t> sequences;
};

/// Which part of the data a micro-batch is.
struct BatchPlace {
  int64_t position = 0; // sequences consumed before this step
  int64_t batch = 1;    // sequences of the step, B
  int64_t dataRanks = 1;
  int64_t microBatches = 1; // of each data rank, M
  int64_t dataRank = 0;
  int64_t microBatch = 0;
};

struct BatchSourceOptions {
  int64_t numRows = 0; // R
  uint64_t seed = 0;
  /// Held-out data: file order, once, then padding.
  bool isEvaluation = false;
};

struct DataStatistics {
  int64_t numRecords = 0;       // lines that hold a record
  int64_t numSkipped = 0;       // malformed lines
  int64_t numEmpty = 0;         // records with nothing to learn
  int64_t numMergedBorders = 0; // answers that begin or end inside a token
  int64_t numDocuments = 0;
  int64_t numTokens = 0;
  int64_t numSequences = 0;
  LayoutCounts layout;
};

/// Where a row's token comes from.
struct TokenOrigin {
  std::string file;
  int64_t line = 0;  // counts from 1
  int64_t token = 0; // in its document
  bool isRejected = false;
};

class BatchSource {
public:
  /// `files`: the data files, as given to buildTokenFile(), for trace().
  /// Errors  BatchShapeInvalid (R < 1), DataEmpty.
  static absl::StatusOr<BatchSource> create(TokenFile file,
                                            std::vector<std::string> files,
                                            const BatchSourceOptions& options);

  /// Makes the batch of a place. Data rank d, micro-batch m gets S = B / (dp *
  /// M) sequences from position + (d * M + m) * S on, so that every split of a
  /// step holds the same sequences. May be called by several threads.
  /// Errors  BatchShapeInvalid: B is no multiple of dp * M, dpo and S or the
  ///         position is odd; TokenFileCorrupt: an id outside the vocabulary.
  absl::Status fill(const BatchPlace& place, TrainingBatch& batch) const;

  /// Returns the origin of a row of the sequence at a data position.
  /// Errors  NotFound for padding.
  absl::StatusOr<TokenOrigin> trace(int64_t position, int64_t row) const;

  /// Returns the sequences of an epoch.
  int64_t numSequences() const { return layout_->numSequences(); }

  int64_t numTokens() const { return file_->numTokens(); }

  /// Returns the steps of an epoch, the last one incomplete; a step goes on
  /// with the next epoch's sequences, or with padding in an evaluation.
  int64_t numSteps(int64_t batch) const {
    return (numSequences() + batch - 1) / batch;
  }

  /// Returns the epoch of a position, from 0.
  int64_t epoch(int64_t position) const { return position / numSequences(); }

  int64_t numRows() const { return options_.numRows; }

  Objective objective() const { return file_->objective(); }

  DataStatistics statistics() const;

private:
  BatchSource() = default;

  int64_t findSequence(int64_t position) const;
  absl::Status checkPlace(const BatchPlace& place) const;
  absl::Status fillSequence(int64_t sequence, int64_t slot,
                            std::vector<Segment>& segments,
                            TrainingBatch& batch) const;

  std::unique_ptr<TokenFile> file_;
  std::unique_ptr<SequenceLayout> layout_;
  std::vector<std::string> files_;
  BatchSourceOptions options_;
};

} // namespace llmrt
