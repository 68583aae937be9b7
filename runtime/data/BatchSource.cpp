// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/BatchSource.h"

#include "runtime/base/Error.h"
#include "runtime/data/Permutation.h"

#include <numeric>

namespace llmrt {

absl::StatusOr<BatchSource>
BatchSource::create(TokenFile file, std::vector<std::string> files,
                    const BatchSourceOptions& options) {
  constexpr int64_t kMaxRows = int64_t{1} << 30;
  if (options.numRows < 1 || options.numRows > kMaxRows)
    return makeError(ErrorCode::BatchShapeInvalid,
                     absl::StrCat("a sequence of ", options.numRows, " tokens"),
                     "ask for at least one and at most 2^30 (--seq)");
  BatchSource source;
  source.file_ = std::make_unique<TokenFile>(std::move(file));
  source.layout_ = std::make_unique<SequenceLayout>(
      SequenceLayout::create(*source.file_, options.numRows));
  source.files_ = std::move(files);
  source.options_ = options;
  if (source.numSequences() == 0)
    return makeError(ErrorCode::DataEmpty,
                     absl::StrCat("no token to predict in ",
                                  source.file_->path(), ": ",
                                  source.file_->numDocuments(), " documents, ",
                                  source.layout_->counts().numDropped,
                                  " dropped because their answers lie beyond ",
                                  options.numRows, " tokens"),
                     "use longer sequences (--seq) or other data");
  return source;
}

// Returns the sequence of the layout at a data position, -1 behind the end of
// an evaluation. The two sequences of a pair stay together.
int64_t BatchSource::findSequence(int64_t position) const {
  int64_t count = numSequences();
  if (options_.isEvaluation)
    return position < count ? position : -1;
  int64_t unit = objective() == Objective::Dpo ? 2 : 1;
  uint64_t chosen = permute(static_cast<uint64_t>(position % count / unit),
                            static_cast<uint64_t>(count / unit), options_.seed,
                            static_cast<uint64_t>(position / count));
  return static_cast<int64_t>(chosen) * unit + position % unit;
}

absl::Status BatchSource::checkPlace(const BatchPlace& place) const {
  if (place.batch < 1 || place.dataRanks < 1 || place.microBatches < 1 ||
      place.position < 0 || place.dataRank < 0 ||
      place.dataRank >= place.dataRanks || place.microBatch < 0 ||
      place.microBatch >= place.microBatches ||
      place.batch % (place.dataRanks * place.microBatches) != 0)
    return makeError(ErrorCode::BatchShapeInvalid,
                     absl::StrCat("a batch of ", place.batch, " sequences for ",
                                  place.dataRanks, " data ranks and ",
                                  place.microBatches, " micro-batches"),
                     "make the batch a multiple of both");
  int64_t numSequences = place.batch / (place.dataRanks * place.microBatches);
  if (objective() == Objective::Dpo &&
      (numSequences % 2 != 0 || place.position % 2 != 0))
    return makeError(ErrorCode::BatchShapeInvalid,
                     absl::StrCat("a dpo micro-batch of ", numSequences,
                                  " sequences at position ", place.position),
                     "chosen and rejected are a pair: both have to be even");
  return absl::OkStatus();
}

absl::Status BatchSource::fill(const BatchPlace& place,
                               TrainingBatch& batch) const {
  LLMRT_RETURN_IF_ERROR(checkPlace(place));
  int64_t numRows = options_.numRows;
  batch.numRows = numRows;
  batch.numSequences = place.batch / (place.dataRanks * place.microBatches);
  int64_t first = place.position +
                  (place.dataRank * place.microBatches + place.microBatch) *
                      batch.numSequences;
  auto numElements = static_cast<size_t>(batch.numSequences * numRows);
  batch.ids.assign(numElements, 0);
  batch.positions.assign(numElements, 0);
  batch.labels.assign(numElements, kIgnoredLabel);
  batch.starts.resize(numElements);
  batch.sequences.resize(batch.numSequences);
  std::vector<Segment> segments;
  for (int64_t slot = 0; slot < batch.numSequences; ++slot) {
    auto starts = batch.starts.begin() + slot * numRows;
    std::iota(starts, starts + numRows, 0);
    int64_t sequence = findSequence(first + slot);
    batch.sequences[slot] = sequence;
    if (sequence >= 0)
      LLMRT_RETURN_IF_ERROR(fillSequence(sequence, slot, segments, batch));
  }
  return absl::OkStatus();
}

absl::Status BatchSource::fillSequence(int64_t sequence, int64_t slot,
                                       std::vector<Segment>& segments,
                                       TrainingBatch& batch) const {
  layout_->findSegments(sequence, segments);
  auto vocabSize = static_cast<int64_t>(file_->header().vocabSize);
  int64_t base = slot * options_.numRows;
  int64_t row = 0;
  for (const Segment& segment : segments) {
    int64_t start = row;
    int64_t documentEnd = file_->documentBegin(segment.document + 1);
    for (int64_t at = segment.tokenBegin; at < segment.tokenEnd; ++at, ++row) {
      int32_t id = file_->token(at);
      int32_t next = at + 1 < documentEnd ? file_->token(at + 1) : 0;
      if (id < 0 || id >= vocabSize || next < 0 || next >= vocabSize)
        return makeError(ErrorCode::TokenFileCorrupt,
                         absl::StrCat("token file ", file_->path(),
                                      ": an id outside the vocabulary near "
                                      "token ",
                                      at),
                         "delete it: it is made again");
      batch.ids[base + row] = id;
      batch.positions[base + row] = static_cast<int32_t>(row - start);
      batch.starts[base + row] = static_cast<int32_t>(start);
      if (at + 1 < documentEnd && file_->isCounted(at + 1))
        batch.labels[base + row] = next;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenOrigin> BatchSource::trace(int64_t position,
                                               int64_t row) const {
  int64_t sequence = position < 0 ? -1 : findSequence(position);
  if (sequence >= 0 && row >= 0) {
    std::vector<Segment> segments;
    layout_->findSegments(sequence, segments);
    for (const Segment& segment : segments) {
      int64_t numRows = segment.tokenEnd - segment.tokenBegin;
      if (row >= numRows) {
        row -= numRows;
        continue;
      }
      const TokenFileDocument& document = file_->document(segment.document);
      TokenOrigin origin;
      if (document.source < files_.size())
        origin.file = files_[document.source];
      origin.line = static_cast<int64_t>(document.line);
      origin.token =
          segment.tokenBegin + row - file_->documentBegin(segment.document);
      origin.isRejected =
          objective() == Objective::Dpo && segment.document % 2 == 1;
      return origin;
    }
  }
  return absl::NotFoundError(
      absl::StrCat("no token at data position ", position, ", row ", row));
}

DataStatistics BatchSource::statistics() const {
  const TokenFileHeader& header = file_->header();
  DataStatistics statistics;
  statistics.numRecords = static_cast<int64_t>(header.numRecords);
  statistics.numSkipped = static_cast<int64_t>(header.numSkipped);
  statistics.numEmpty = static_cast<int64_t>(header.numEmpty);
  statistics.numMergedBorders = static_cast<int64_t>(header.numMergedBorders);
  statistics.numDocuments = file_->numDocuments();
  statistics.numTokens = file_->numTokens();
  statistics.numSequences = numSequences();
  statistics.layout = layout_->counts();
  return statistics;
}

} // namespace llmrt
