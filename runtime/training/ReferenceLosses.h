// SPDX-License-Identifier: Apache-2.0
// The reference model's -log p of every row of the data, for preference
// optimisation: computed once with the training plan's own forward passes, kept
// in a file, read by every rank. docs/reference/reference-losses.md has the
// format.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/data/BatchSource.h"
#include "runtime/executor/Executor.h"

#include <functional>
#include <string>

namespace llmrt {

class ReferenceLosses {
public:
  /// Opens a file that computeReferenceLosses() made of `data`.
  /// Errors  NotFound if it is not there or was made of something else;
  ///         SafetensorsCorrupt.
  static absl::StatusOr<ReferenceLosses> open(const std::string& path,
                                              const std::string& fingerprint,
                                              const BatchSource& data);

  /// Returns -log p of the rows of a sequence, by its number in the layout;
  /// 0 where the label is not counted.
  absl::Span<const float> rows(int64_t sequence) const {
    return {values_ + sequence * numRows_, static_cast<size_t>(numRows_)};
  }

private:
  ReferenceLosses() = default;

  MappedFile file_;
  const float* values_ = nullptr;
  int64_t numRows_ = 0;
};

/// One pass over the data with the weights that the executor holds.
struct ReferencePass {
  const fb::Plan& plan;
  Executor& executor;
  Communicator* all = nullptr; // null: one rank
  const BatchSource& data;     // made with isEvaluation
  std::string path;
  std::string fingerprint;
  /// Called on rank 0 with sequences done and in all.
  std::function<void(int64_t, int64_t)> progress;
  /// Asked on every rank after every batch: one yes ends the pass.
  std::function<bool()> isStopRequested;
};

/// Collective over all ranks; rank 0 writes the file, whole or not at all.
/// Errors  Cancelled; those of executeEvaluation(), BatchSource::fill() and
///         SafetensorsWriter, on all ranks.
absl::Status computeReferenceLosses(const ReferencePass& pass);

} // namespace llmrt
