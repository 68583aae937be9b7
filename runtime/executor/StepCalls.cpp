// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/StepCalls.h"

#include "runtime/base/Error.h"
#include "runtime/executor/CheckedMemory.h"
#include "runtime/executor/StepOrder.h"
#include "runtime/executor/Timeline.h"
#include "runtime/plan/TrainingEntries.h"

#include <algorithm>

namespace llmrt {

absl::Status StepCalls::prepare(HostCopies* copies, bool usesGraphs) {
  copies_ = copies;
  std::vector<const fb::Action*> all, evaluation;
  for (const fb::Action* action : *rank_.stage.schedule()) {
    all.push_back(action);
    const auto* name = rank_.plan.entries()->Get(action->entry())->name();
    if (isOfEvaluation(absl::string_view(name->data(), name->size())))
      evaluation.push_back(action);
  }
  LLMRT_RETURN_IF_ERROR(prepareActions(all, usesGraphs, step_));
  return prepareActions(evaluation, usesGraphs, evaluation_);
}

absl::Status
StepCalls::prepareActions(const std::vector<const fb::Action*>& actions,
                          bool usesGraphs, ActionList& list) {
  std::map<int, const fb::Program*> byEntry;
  for (const fb::Program* program : *rank_.stage.programs())
    byEntry[program->entry()] = program;
  std::vector<ActionOrder> order = orderActions(rank_.stage, actions);
  bool communicates = false;
  for (size_t i = 0; i < actions.size(); ++i) {
    int entry = actions[i]->entry();
    Slots slots = slotsOf(*actions[i]);
    std::unique_ptr<Program>& program = programs_[{entry, slots.byKind}];
    if (!program) {
      LLMRT_ASSIGN_OR_RETURN(program,
                             Program::create(*byEntry.at(entry),
                                             rank_.plan.entries()->Get(entry),
                                             rank_, slots));
    }
    PreparedAction action{program.get(), entry, order[i].stream, std::nullopt,
                          std::nullopt};
    if (order[i].waitsFor >= 0)
      action.waitsFor = list.actions[order[i].waitsFor].done;
    if (order[i].isAwaited)
      action.done = rank_.device.createEvent();
    list.actions.push_back(action);
    list.numCommands += program->numCommands();
    communicates |= program->communicates();
  }
  if (rank_.checked)
    list.checkedSchedule = rank_.checked->addSchedule(actions);
  list.graphs = std::make_unique<CallGraphs>(
      rank_.device, obstacleToGraphs(rank_, usesGraphs, communicates),
      communicates);
  return absl::OkStatus();
}

void StepCalls::enqueueActions(const ActionList& list) {
  for (size_t i = 0; i < list.actions.size(); ++i) {
    const PreparedAction& action = list.actions[i];
    if (action.waitsFor)
      rank_.device.wait(action.stream, *action.waitsFor);
    if (rank_.checked)
      rank_.checked->beginAction(list.checkedSchedule, i);
    auto begin = std::chrono::steady_clock::now();
    action.program->enqueue(0);
    if (action.stream == Stream::Compute && rank_.timeline)
      rank_.timeline->add(
          {TimelineRow::Entries, /*isWait=*/false,
           rank_.plan.entries()->Get(action.entry)->name()->c_str(), "", "", 0,
           begin, std::chrono::steady_clock::now()});
    if (rank_.checked)
      rank_.checked->endAction(list.checkedSchedule, i);
    if (action.done)
      rank_.device.record(*action.done, action.stream);
  }
}

int64_t StepCalls::enqueue(ActionList& list) {
  if (copies_)
    copies_->beginCall();
  auto begin = std::chrono::steady_clock::now();
  const CallGraphs::Call call =
      list.graphs->enqueue(/*validRows=*/0, /*numFetched=*/0, [&](bool isKept) {
        if (copies_)
          copies_->sendStepInputs(/*all=*/isKept);
        enqueueActions(list);
      });
  if (call.isEager)
    return list.numCommands;
  if (copies_)
    copies_->forgetSentOfStep();
  rank_.computeRecorder.begin({-1, "Graph", list.name, ""});
  rank_.computeRecorder.end();
  if (rank_.timeline)
    rank_.timeline->add({TimelineRow::Entries, /*isWait=*/false, list.name,
                         list.graphs->lastCall(), "", 0, begin,
                         std::chrono::steady_clock::now()});
  return list.numCommands;
}

void StepCalls::forgetGraphs() {
  for (ActionList* list : {&step_, &evaluation_})
    if (list->graphs)
      list->graphs->forget();
}

} // namespace llmrt
