// SPDX-License-Identifier: Apache-2.0
// The order of the compute actions of each stage, as the papers state it.
// Transfers and slots are added in MakeSchedule.cpp.
#include "compiler/schedule/Schedule.h"

#include <algorithm>

namespace llmc::schedule {
namespace {

Action compute(ActionKind kind, int microBatch, int chunk = 0) {
  Action action;
  action.kind = kind;
  action.chunk = chunk;
  action.microBatch = microBatch;
  return action;
}

/// Backward runs in micro-batch order, not reversed: weight gradients are then
/// summed in the same order under every schedule.
std::vector<Action> gpipeStage(int numMicroBatches) {
  std::vector<Action> actions;
  for (int m = 0; m < numMicroBatches; ++m)
    actions.push_back(compute(ActionKind::Forward, m));
  for (int m = 0; m < numMicroBatches; ++m)
    actions.push_back(compute(ActionKind::Backward, m));
  return actions;
}

std::vector<Action> oneForwardOneBackwardStage(int stages, int numMicroBatches,
                                               int stage) {
  std::vector<Action> actions;
  int forward = 0;
  for (; forward < std::min(stages - stage - 1, numMicroBatches); ++forward)
    actions.push_back(compute(ActionKind::Forward, forward));
  for (int m = 0; m < numMicroBatches; ++m) {
    if (forward < numMicroBatches)
      actions.push_back(compute(ActionKind::Forward, forward++));
    actions.push_back(compute(ActionKind::Backward, m));
  }
  return actions;
}

/// ZB-H1: 1F1B whose weight gradients stage p puts off by p micro-batches.
/// Every stage then holds P micro-batches, as stage 0 of 1F1B does, and the
/// input gradients climb the pipeline without waiting for weight gradients.
std::vector<Action> zeroBubbleStage(int stages, int numMicroBatches,
                                    int stage) {
  std::vector<Action> actions;
  int weight = 0;
  for (const Action& action :
       oneForwardOneBackwardStage(stages, numMicroBatches, stage)) {
    if (action.kind == ActionKind::Forward) {
      actions.push_back(action);
      continue;
    }
    actions.push_back(compute(ActionKind::BackwardInput, action.microBatch));
    if (action.microBatch >= stage)
      actions.push_back(compute(ActionKind::BackwardWeight, weight++));
  }
  while (weight < numMicroBatches)
    actions.push_back(compute(ActionKind::BackwardWeight, weight++));
  return actions;
}

/// Groups of P micro-batches pass chunk after chunk; the k-th backward mirrors
/// the k-th forward. Narayanan et al. 2021, section 2.2.
std::vector<Action> interleavedStage(int stages, int numMicroBatches,
                                     int virtualStages, int stage) {
  int total = numMicroBatches * virtualStages;
  auto nth = [&](int k, bool isForward) {
    int group = k / (stages * virtualStages);
    int chunk = k % (stages * virtualStages) / stages;
    return compute(isForward ? ActionKind::Forward : ActionKind::Backward,
                   group * stages + k % stages,
                   isForward ? chunk : virtualStages - 1 - chunk);
  };
  int warmUp =
      std::min(2 * (stages - stage - 1) + (virtualStages - 1) * stages, total);
  std::vector<Action> actions;
  for (int k = 0; k < warmUp; ++k)
    actions.push_back(nth(k, true));
  for (int k = 0; k < total; ++k) {
    if (warmUp + k < total)
      actions.push_back(nth(warmUp + k, true));
    actions.push_back(nth(k, false));
  }
  return actions;
}

} // namespace

std::vector<std::vector<Action>> computeOrder(const ScheduleOptions& options) {
  std::vector<std::vector<Action>> order;
  for (int stage = 0; stage < options.stages; ++stage) {
    if (options.kind == ScheduleKind::GPipe)
      order.push_back(gpipeStage(options.microBatches));
    else if (options.kind == ScheduleKind::ZeroBubble)
      order.push_back(
          zeroBubbleStage(options.stages, options.microBatches, stage));
    else if (options.virtualStages > 1)
      order.push_back(interleavedStage(options.stages, options.microBatches,
                                       options.virtualStages, stage));
    else
      order.push_back(oneForwardOneBackwardStage(options.stages,
                                                 options.microBatches, stage));
  }
  return order;
}

int inFlightLimit(ScheduleKind kind, int stages, int microBatches,
                  int virtualStages, int stage) {
  if (kind == ScheduleKind::GPipe)
    return microBatches;
  if (kind == ScheduleKind::ZeroBubble)
    return std::min(stages, microBatches);
  if (virtualStages == 1)
    return std::min(stages - stage, microBatches);
  return std::min(2 * (stages - stage - 1) + (virtualStages - 1) * stages + 1,
                  microBatches * virtualStages);
}

} // namespace llmc::schedule
