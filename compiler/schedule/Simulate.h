// SPDX-License-Identifier: Apache-2.0
// Predicts when each action of a schedule runs, the time of a step and the
// share of it that ranks are idle: event by event, so that any order and uneven
// stages are covered.
#pragma once

#include "compiler/schedule/Execution.h"

namespace llmc::schedule {

struct Timeline {
  std::vector<std::vector<Span>> spans; ///< [stages][actions], from 0
  double makespan = 0;
  /// Share of makespan x stages that is not spent in compute actions. With
  /// equal stages it is (cost - M (tf + tb + tw)) / cost, the bubble rate of Qi
  /// et al. 2023.
  double bubbleFraction = 0;
};

/// Runs the schedule once.
/// Errors  InvalidArgument for a wrong number of segment times or a negative
/// time;
///         Internal for a schedule that check() refuses because it never ends.
absl::StatusOr<Timeline>
simulate(const Schedule& schedule, const StepCosts& costs,
         TransferModel model = TransferModel::Overlapped);

} // namespace llmc::schedule
