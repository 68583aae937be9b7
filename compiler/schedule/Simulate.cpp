// SPDX-License-Identifier: Apache-2.0
// Times of a schedule; the order of events is Execution.cpp's.
#include "compiler/schedule/Simulate.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include <algorithm>

namespace llmc::schedule {
namespace {

absl::Status checkCosts(const Schedule& schedule, const StepCosts& costs) {
  size_t numGlobal =
      static_cast<size_t>(schedule.stages) * schedule.virtualStages;
  if (costs.segments.size() != 1 && costs.segments.size() != numGlobal)
    return absl::InvalidArgumentError(
        absl::StrCat("times of ", costs.segments.size(), " segments for ",
                     numGlobal, " chunks; give one, or one for each"));
  bool isNegative = costs.transfer < 0;
  for (const SegmentTimes& times : costs.segments)
    isNegative |= times.forward < 0 || times.backwardInput < 0 ||
                  times.backwardWeight < 0;
  if (isNegative)
    return absl::InvalidArgumentError(
        "a segment or transfer takes negative time");
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<Timeline> simulate(const Schedule& schedule,
                                  const StepCosts& costs, TransferModel model) {
  absl::Status status = checkCosts(schedule, costs);
  if (!status.ok())
    return status;
  auto duration = [&](int stage, const Action& action) {
    return costs.of(action, stage, schedule.stages);
  };
  Timeline timeline;
  timeline.spans = execute(schedule, matchTransfers(schedule), model, duration);
  double work = 0;
  for (int stage = 0; stage < schedule.stages; ++stage)
    for (size_t i = 0; i < timeline.spans[stage].size(); ++i) {
      const Action& action = schedule.actions[stage][i];
      double end = timeline.spans[stage][i].end;
      if (end < 0)
        return absl::InternalError(absl::StrCat(
            "stage ", stage, ": ", describe(action), " never runs"));
      timeline.makespan = std::max(timeline.makespan, end);
      work += isTransfer(action.kind) ? 0 : duration(stage, action);
    }
  if (timeline.makespan > 0)
    timeline.bubbleFraction = 1 - work / (timeline.makespan * schedule.stages);
  return timeline;
}

} // namespace llmc::schedule
