// SPDX-License-Identifier: Apache-2.0
// Data into the inputs of a training step: which part of a batch is this
// rank's, and where it goes. Training, evaluation and the reference pass share
// it.
#pragma once

#include "runtime/data/BatchSource.h"
#include "runtime/executor/Executor.h"

namespace llmrt {

class ReferenceLosses;

/// Returns a rank's place in a step of the plan, at data position 0.
/// Errors  BatchShapeInvalid: the plan's batch cannot be cut, or sequences are
///         not of `numRows` tokens.
absl::StatusOr<BatchPlace> placeOfRank(const fb::Plan& plan, int rank,
                                       int64_t numRows);

/// Checks the sizes of the inputs that this rank's stage has.
/// Errors  PlanInvalid.
absl::Status checkStepInputs(const fb::Plan& plan, const BatchPlace& place,
                             Executor& executor);

/// Writes ids, positions, starts and labels of this rank's micro-batches, and
/// reference_loss if the plan wants it. `place.microBatch` is ignored;
/// `reference` may be null: zeros. Errors  those of BatchSource::fill().
absl::Status fillStepInputs(const BatchSource& data,
                            const ReferenceLosses* reference, BatchPlace place,
                            Executor& executor);

} // namespace llmrt
