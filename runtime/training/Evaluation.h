// SPDX-License-Identifier: Apache-2.0
// The loss of held-out data: the forward passes of training steps, without
// gradients and updates, over all of the data once.
#pragma once

#include "runtime/data/BatchSource.h"
#include "runtime/executor/Executor.h"

#include <functional>
#include <optional>
#include <string>

namespace llmrt {

class ReferenceLosses;

/// What preference optimisation reports besides its loss: means over pairs.
/// Source  Rafailov et al. 2023; names as in TRL.
struct PreferenceReport {
  double chosenReward = 0;
  double rejectedReward = 0;
  double margin = 0;
  double accuracy = 0;
};

/// Returns the report of the step that ran last; nothing for other objectives,
/// or if this stage has no sums.
std::optional<PreferenceReport> preferenceOfStep(const Executor& executor);

/// Returns number `index` of a result of the step; nothing if this stage lacks
/// it.
std::optional<double> stepNumber(const Executor& executor,
                                 absl::string_view name, size_t index = 0);

/// Held-out data by name, which is in the metrics.
struct HeldOutData {
  std::string name;
  const BatchSource* data = nullptr; // made with isEvaluation
  const ReferenceLosses* reference = nullptr;
};

struct EvaluationReport {
  int64_t step = 0; // steps done before it
  std::string name;
  double loss = 0;        // mean over what counts
  int64_t numCounted = 0; // labels; dpo: pairs
  double seconds = 0;
  std::optional<PreferenceReport> preference;
};

/// Collective over all ranks; `hyper` of the step is the caller's to fill.
/// `isStopped` is asked after every batch and answers the same on all ranks:
/// then there is no report.
/// Errors  those of BatchSource::fill() and executeEvaluation().
absl::StatusOr<std::optional<EvaluationReport>>
evaluate(const HeldOutData& heldOut, const BatchPlace& place,
         Executor& executor,
         const std::function<absl::StatusOr<bool>()>& isStopped);

} // namespace llmrt
