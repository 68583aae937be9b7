// SPDX-License-Identifier: Apache-2.0
// The reference model of plans of --reference=precompute: its losses come from
// the file beside the token file, or from one pass with its weights in the
// place of the model's.
#pragma once

#include "runtime/training/ReferenceLosses.h"
#include "tools/llmrt/Options.h"
#include "tools/llmrt/Session.h"
#include "tools/llmrt/TrainingData.h"

#include <list>
#include <memory>

namespace llmrt {

/// One rank's; every rank makes the same calls.
class ReferenceModel {
public:
  /// Both outlive the object.
  ReferenceModel(RankContext& rank, const RunOptions& options)
      : rank_(rank), options_(options) {}

  /// Returns the losses of data that were opened for evaluation, which live as
  /// long as this object; null if the plan needs none.
  /// Errors  Cancelled after Ctrl-C; those of computeReferenceLosses(),
  ///         ReferenceLosses::open() and reloadWeights().
  absl::StatusOr<const ReferenceLosses*> lossesOf(const OpenedData& data);

  /// Brings the model's own weights back, if lossesOf() replaced them.
  absl::Status restoreWeights();

private:
  absl::Status prepare();
  std::string fingerprintOf(const OpenedData& data) const;
  absl::Status compute(const OpenedData& data, const std::string& path,
                       const std::string& fingerprint);
  absl::Status loadReference();

  RankContext& rank_;
  const RunOptions& options_;
  std::vector<WeightLocation> weights_;
  std::string referencePath_;
  int64_t weightsNumber_ = 0; // of the files of the reference's weights
  bool isReferenceLoaded_ = false;
  std::unique_ptr<Communicator> all_; // null: one rank, or not needed
  std::list<ReferenceLosses> losses_;
};

} // namespace llmrt
