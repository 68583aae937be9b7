// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the steps of a training plan and their evaluations.
// Each is a list of actions of the stage's schedule, whose commands are the
// same every time, so that it is one graph where that is possible
// (CallGraphs.h).
#pragma once

#include "runtime/executor/CallGraphs.h"
#include "runtime/executor/HostCopies.h"
#include "runtime/executor/Program.h"

#include <array>
#include <map>
#include <optional>
#include <vector>

namespace llmrt {

class StepCalls {
public:
  explicit StepCalls(Rank& rank) : rank_(rank) {}

  /// Prepares the programs of the stage's schedule, once for each set of slots.
  /// `copies`: null where the host shares the memory; outlives this.
  absl::Status prepare(HostCopies* copies, bool usesGraphs);

  /// True if the plan holds no training step.
  bool isEmpty() const { return step_.actions.empty(); }

  /// Enqueue a step; or those of its actions that make the loss, without the
  /// gradients. Return how many commands that are.
  int64_t enqueueStep() { return enqueue(step_); }

  int64_t enqueueEvaluation() { return enqueue(evaluation_); }

  /// Graphs may hold what is about to change.
  void forgetGraphs();

private:
  /// An action of the schedule, prepared.
  struct PreparedAction {
    Program* program;
    int entry;
    Stream stream;
    std::optional<EventId> waitsFor; // what the other stream has to do before
    std::optional<EventId> done;     // recorded behind it
  };

  /// Actions of the schedule that run one after another.
  struct ActionList {
    const char* name; // in the timeline
    std::vector<PreparedAction> actions = {};
    int checkedSchedule = -1; // number in the check of memory
    std::unique_ptr<CallGraphs> graphs = {};
    int64_t numCommands = 0;
  };

  absl::Status prepareActions(const std::vector<const fb::Action*>& actions,
                              bool usesGraphs, ActionList& list);
  int64_t enqueue(ActionList& list);
  void enqueueActions(const ActionList& list);

  Rank& rank_;
  HostCopies* copies_ = nullptr;
  std::map<std::pair<int, std::array<int, 8>>, std::unique_ptr<Program>>
      programs_; // by entry and slots
  ActionList step_{"step"};
  ActionList evaluation_{"evaluation"};
};

} // namespace llmrt
