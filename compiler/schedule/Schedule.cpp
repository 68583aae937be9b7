// SPDX-License-Identifier: Apache-2.0
// Names of the parts of a schedule, and what follows from an action alone: its
// slots, its neighbours, its description. Making a schedule is in
// MakeSchedule.cpp.
#include "compiler/schedule/Schedule.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <algorithm>

namespace llmc::schedule {

std::string_view scheduleKindName(ScheduleKind kind) {
  switch (kind) {
  case ScheduleKind::GPipe:
    return "gpipe";
  case ScheduleKind::OneForwardOneBackward:
    return "1f1b";
  case ScheduleKind::Interleaved:
    return "interleaved";
  case ScheduleKind::ZeroBubble:
    return "zero-bubble";
  }
  return "";
}

absl::StatusOr<ScheduleKind> parseScheduleKind(std::string_view name) {
  for (ScheduleKind kind :
       {ScheduleKind::GPipe, ScheduleKind::OneForwardOneBackward,
        ScheduleKind::Interleaved, ScheduleKind::ZeroBubble})
    if (name == scheduleKindName(kind))
      return kind;
  return llmrt::makeError(
      llmrt::ErrorCode::BadOptionValue,
      absl::StrCat("unknown schedule '",
                   absl::string_view(name.data(), name.size()), "'"),
      "use gpipe, 1f1b, interleaved or zero-bubble");
}

std::string_view actionKindName(ActionKind kind) {
  switch (kind) {
  case ActionKind::Forward:
    return "Forward";
  case ActionKind::Backward:
    return "Backward";
  case ActionKind::BackwardInput:
    return "BackwardInput";
  case ActionKind::BackwardWeight:
    return "BackwardWeight";
  case ActionKind::Send:
    return "Send";
  case ActionKind::Recv:
    return "Recv";
  }
  return "";
}

bool isTransfer(ActionKind kind) {
  return kind == ActionKind::Send || kind == ActionKind::Recv;
}

std::string describe(const Action& action) {
  std::string name(actionKindName(action.kind));
  if (!isTransfer(action.kind))
    return absl::StrCat(name, " of micro-batch ", action.microBatch, ", chunk ",
                        action.chunk);
  return absl::StrCat(
      name, " of the ", action.isGradient ? "gradient" : "activation",
      " of micro-batch ", action.microBatch, ", chunk ", action.chunk,
      action.kind == ActionKind::Send ? ", to stage " : ", from stage ",
      action.peer);
}

std::string_view slotClassName(SlotClass slotClass) {
  switch (slotClass) {
  case SlotClass::Saved:
    return "saved";
  case SlotClass::Deferred:
    return "deferred";
  case SlotClass::ReceivedActivation:
    return "received activation";
  case SlotClass::ReceivedGradient:
    return "received gradient";
  case SlotClass::SentActivation:
    return "sent activation";
  case SlotClass::SentGradient:
    return "sent gradient";
  }
  return "";
}

std::vector<SlotUse> slotUses(const Action& action) {
  std::vector<SlotUse> uses;
  auto use = [&](SlotClass slotClass, int slot, bool isWrite, bool isLast) {
    bool isPerChunk =
        slotClass == SlotClass::Saved || slotClass == SlotClass::Deferred;
    if (slot >= 0)
      uses.push_back(
          {slotClass, isPerChunk ? action.chunk : 0, slot, isWrite, isLast});
  };
  ActionKind kind = action.kind;
  if (kind == ActionKind::Send) {
    use(action.isGradient ? SlotClass::SentGradient : SlotClass::SentActivation,
        action.sendSlot, false, true);
    return uses;
  }
  if (kind == ActionKind::Recv) {
    if (action.isGradient)
      use(SlotClass::ReceivedGradient, action.gradientSlot, true, false);
    else
      use(SlotClass::ReceivedActivation, action.activationSlot, true, false);
    return uses;
  }
  bool isForward = kind == ActionKind::Forward;
  bool isLastSegment =
      kind == ActionKind::Backward || kind == ActionKind::BackwardWeight;
  use(SlotClass::ReceivedActivation, action.activationSlot, false,
      isLastSegment);
  use(SlotClass::Saved, action.savedSlot, isForward, isLastSegment);
  use(SlotClass::ReceivedGradient, action.gradientSlot, false, true);
  use(SlotClass::Deferred, action.deferredSlot,
      kind == ActionKind::BackwardInput, isLastSegment);
  use(isForward ? SlotClass::SentActivation : SlotClass::SentGradient,
      action.sendSlot, true, false);
  return uses;
}

int StageSlots::count(SlotClass slotClass, int chunk) const {
  switch (slotClass) {
  case SlotClass::Saved:
    return saved[chunk];
  case SlotClass::Deferred:
    return deferred[chunk];
  case SlotClass::ReceivedActivation:
    return receivedActivation;
  case SlotClass::ReceivedGradient:
    return receivedGradient;
  case SlotClass::SentActivation:
    return sentActivation;
  case SlotClass::SentGradient:
    return sentGradient;
  }
  return 0;
}

double SegmentTimes::of(ActionKind kind) const {
  switch (kind) {
  case ActionKind::Forward:
    return forward;
  case ActionKind::Backward:
    return backwardInput + backwardWeight;
  case ActionKind::BackwardInput:
    return backwardInput;
  case ActionKind::BackwardWeight:
    return backwardWeight;
  case ActionKind::Send:
  case ActionKind::Recv:
    break;
  }
  return 0;
}

double StepCosts::of(const Action& action, int stage, int stages) const {
  if (isTransfer(action.kind))
    return transfer;
  size_t global = static_cast<size_t>(action.chunk) * stages + stage;
  return segments[segments.size() == 1 ? 0 : global].of(action.kind);
}

ChunkOfStage nextChunk(const Schedule& schedule, int stage, int chunk) {
  if (stage + 1 < schedule.stages)
    return {stage + 1, chunk};
  return {0, chunk + 1};
}

ChunkOfStage previousChunk(const Schedule& schedule, int stage, int chunk) {
  if (stage > 0)
    return {stage - 1, chunk};
  return {schedule.stages - 1, chunk - 1};
}

} // namespace llmc::schedule
