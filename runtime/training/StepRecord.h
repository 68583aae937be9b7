// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run tell each other after every step: one gather, after
// which all hold the same numbers and decide the same, also whether to stop.
// No rank leads: a signal may reach any of them.
#pragma once

#include "runtime/comm/Communicator.h"

#include <cstdint>

namespace llmrt {

/// One rank's part. Stages that do not have a number leave it absent.
struct StepRecord {
  int64_t magic = 0x4c4c4d54; // "LLMT"
  int64_t step = 0;           // that was run, from 0
  int64_t wantsStop = 0;
  int64_t hasLoss = 0;
  int64_t hasNorm = 0;
  int64_t hasCount = 0;
  int64_t nonFiniteTensor = -1; // of LogicalTensors, in this rank's part
  double loss = 0;
  double norm = 0;
  double isFinite = 0; // 1: the update was made
  double count = 0;    // of labels, over all ranks
};

/// The same on all ranks.
struct StepOutcome {
  bool isStopWanted = false;
  double loss = 0; // NaN if no rank has it
  double norm = 0;
  bool isUpdated = true;
  int64_t numCounted = 0;
  int nonFiniteTensor = -1; // the first
};

/// Collective; `all` may be null: one rank.
/// Errors  ControlRecordMismatch if ranks are in different steps, or disagree
///         about norm and update; those of a Communicator.
absl::StatusOr<StepOutcome> agreeOnStep(const StepRecord& mine,
                                        Communicator* all);

} // namespace llmrt
