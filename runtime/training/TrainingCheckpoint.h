// SPDX-License-Identifier: Apache-2.0
// A training run to a checkpoint and back: its logical tensors and where it
// stands. Files are CheckpointWriter's and Checkpoint's, elements
// LogicalTensors'.
#pragma once

#include "runtime/checkpoint/CheckpointWriter.h"
#include "runtime/executor/LogicalTensors.h"

namespace llmrt {

/// Where a run stands between two steps.
struct TrainingPosition {
  int64_t step = 0;      // steps done, skipped ones included
  int64_t updates = 0;   // Adam's t
  int64_t sequences = 0; // consumed since the run began, over all epochs
  int64_t tokens = 0;    // counted labels
  int64_t skipped = 0;   // steps
};

/// The frozen weights that preference optimisation compares with.
struct ReferenceIdentity {
  std::string path;     // for people
  std::string contents; // equal for equal weights; empty: no reference
};

/// What a run must have in common with the one it resumes.
struct TrainingIdentity {
  uint64_t seed = 0;
  std::string data; // fingerprint of the token file
  int64_t sequencesPerEpoch = 1;
  std::string source = {};      // folder that the weights came from; for export
  std::string config = {};      // config.json of a source that has none
  std::string tokenizer = {};   // folder or file; for export
  std::string commandLine = {}; // for people
  ReferenceIdentity reference = {};
};

struct SaveRequest {
  std::string folder;
  int keep = 0; // 0: all
  TrainingPosition position;
  const TrainingIdentity* identity;
};

/// Collective; `all` may be null: one rank.
/// Errors  those of CheckpointWriter, on all ranks the same.
absl::StatusOr<CheckpointResult> saveTraining(const fb::Plan& plan,
                                              const LogicalTensors& tensors,
                                              const SaveRequest& request,
                                              Communicator* all);

/// Returns TrainingIdentity::source of the run that wrote the checkpoint, or
/// "".
std::string sourceFolderOf(const CheckpointMeta& meta);

/// Fills `tensors` from the checkpoint at `path`. Collective.
/// Errors  on all ranks the same: those of Checkpoint; CheckpointMismatch (of
///         another model), ResumeMismatch (of other data, seed or reference).
absl::StatusOr<TrainingPosition> loadTraining(const std::string& path,
                                              const TrainingIdentity& identity,
                                              LogicalTensors& tensors,
                                              Communicator* all);

} // namespace llmrt
