// SPDX-License-Identifier: Apache-2.0
// The checker. Each step relies on those before it: fields, completeness,
// order, transfers, slots, memory, deadlock.
#include "compiler/schedule/Check.h"

#include "compiler/schedule/Execution.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace llmc::schedule {
namespace {

/// What there must be one of for a chunk and micro-batch.
enum Event {
  kForward,
  kBackward, // Backward or BackwardInput
  kWeight,
  kSendActivation,
  kSendGradient,
  kRecvActivation,
  kRecvGradient,
  kNumEvents
};

Event eventOf(const Action& action) {
  switch (action.kind) {
  case ActionKind::Forward:
    return kForward;
  case ActionKind::Backward:
  case ActionKind::BackwardInput:
    return kBackward;
  case ActionKind::BackwardWeight:
    return kWeight;
  case ActionKind::Send:
    return action.isGradient ? kSendGradient : kSendActivation;
  case ActionKind::Recv:
    return action.isGradient ? kRecvGradient : kRecvActivation;
  }
  return kNumEvents;
}

class Checker {
public:
  Checker(const Schedule& schedule, const ScheduleLimits& limits)
      : schedule_(schedule), limits_(limits) {}

  std::optional<Fault> run() {
    checkShape();
    forEachStage(&Checker::checkFields);
    forEachStage(&Checker::indexEvents);
    forEachStage(&Checker::checkComplete);
    forEachStage(&Checker::checkOrder);
    forEachStage(&Checker::checkPeers);
    forEachStage(&Checker::checkTransferOrder);
    forEachStage(&Checker::checkSlots);
    checkDeadlock();
    return fault_;
  }

private:
  void forEachStage(void (Checker::*step)(int)) {
    for (int stage = 0; stage < schedule_.stages && !fault_; ++stage)
      (this->*step)(stage);
  }

  const std::vector<Action>& list(int stage) const {
    return schedule_.actions[stage];
  }

  int numSegments() const {
    return schedule_.virtualStages * schedule_.microBatches;
  }

  /// Keeps the first fault.
  void fail(FaultKind kind, int stage, int index, std::string_view text) {
    if (fault_)
      return;
    std::string where = stage < 0 ? "schedule" : absl::StrCat("stage ", stage);
    if (index >= 0)
      absl::StrAppend(&where, ", action ", index, ": ",
                      describe(list(stage)[index]));
    fault_ = Fault{kind, stage, index,
                   absl::StrCat(where, index >= 0 ? ", " : ": ",
                                absl::string_view(text.data(), text.size()))};
  }

  void checkShape() {
    const Schedule& s = schedule_;
    if (s.stages < 1 || s.microBatches < 1 || s.virtualStages < 1)
      return fail(
          FaultKind::BadShape, -1, -1,
          "stages, micro-batches and virtual stages must be at least 1");
    size_t stages = s.stages;
    if (s.actions.size() != stages || s.slots.size() != stages)
      return fail(FaultKind::BadShape, -1, -1,
                  absl::StrCat(s.actions.size(), " lists and ", s.slots.size(),
                               " slot counts for ", s.stages, " stages"));
    if (!limits_.inFlight.empty() && limits_.inFlight.size() != stages)
      return fail(FaultKind::BadShape, -1, -1,
                  absl::StrCat("limits of ", limits_.inFlight.size(),
                               " stages for ", s.stages));
    size_t chunks = s.virtualStages;
    for (int stage = 0; stage < s.stages; ++stage)
      if (s.slots[stage].saved.size() != chunks ||
          s.slots[stage].deferred.size() != chunks)
        return fail(FaultKind::BadShape, stage, -1,
                    "slot counts are not those of the virtual stages");
  }

  void checkFields(int stage) {
    for (int i = 0; i < static_cast<int>(list(stage).size()) && !fault_; ++i)
      checkFields(stage, i);
  }

  void checkFields(int stage, int i) {
    const Action& a = list(stage)[i];
    auto bad = [&](std::string_view text) {
      fail(FaultKind::BadAction, stage, i, text);
    };
    if (a.chunk < 0 || a.chunk >= schedule_.virtualStages || a.microBatch < 0 ||
        a.microBatch >= schedule_.microBatches)
      return bad("names a chunk or micro-batch that does not exist");
    bool isSplit = schedule_.kind == ScheduleKind::ZeroBubble;
    bool isHalf = a.kind == ActionKind::BackwardInput ||
                  a.kind == ActionKind::BackwardWeight;
    if ((isHalf && !isSplit) || (a.kind == ActionKind::Backward && isSplit))
      return bad(isSplit ? "is not a split backward segment"
                         : "is a split backward segment");
    if (isTransfer(a.kind)) {
      if (a.peer < 0 || a.peer >= schedule_.stages || a.peer == stage)
        return bad("has a peer that does not exist, or itself");
    } else if (a.peer != -1 || a.isGradient) {
      return bad("has a peer or payload, but is no transfer");
    }
    bool isFirst = schedule_.isFirst(stage, a.chunk);
    bool isLast = schedule_.isLast(stage, a.chunk);
    bool isCompute = !isTransfer(a.kind);
    bool isForward = a.kind == ActionKind::Forward;
    bool isBackward =
        a.kind == ActionKind::Backward || a.kind == ActionKind::BackwardInput;
    bool isRecv = a.kind == ActionKind::Recv;
    const StageSlots& slots = schedule_.slots[stage];
    auto slot = [&](int value, bool isUsed, SlotClass slotClass) {
      if (isUsed ? value < 0 || value >= slots.count(slotClass, a.chunk)
                 : value != -1)
        bad(absl::StrCat("has ", value, " as its ",
                         std::string(slotClassName(slotClass)), " slot"));
    };
    bool isGradientSend = isBackward || (!isCompute && a.isGradient);
    slot(a.savedSlot, isCompute, SlotClass::Saved);
    slot(a.deferredSlot, isHalf, SlotClass::Deferred);
    slot(a.activationSlot, (isCompute && !isFirst) || (isRecv && !a.isGradient),
         SlotClass::ReceivedActivation);
    slot(a.gradientSlot, (isBackward && !isLast) || (isRecv && a.isGradient),
         SlotClass::ReceivedGradient);
    slot(a.sendSlot,
         (isForward && !isLast) || (isBackward && !isFirst) ||
             a.kind == ActionKind::Send,
         isGradientSend ? SlotClass::SentGradient : SlotClass::SentActivation);
  }

  int& positionOf(int stage, Event event, int chunk, int microBatch) {
    return position_[((static_cast<size_t>(stage) * kNumEvents + event) *
                          schedule_.virtualStages +
                      chunk) *
                         schedule_.microBatches +
                     microBatch];
  }

  void indexEvents(int stage) {
    if (stage == 0)
      position_.assign(static_cast<size_t>(schedule_.stages) * kNumEvents *
                           numSegments(),
                       -1);
    for (int i = 0; i < static_cast<int>(list(stage).size()); ++i) {
      const Action& a = list(stage)[i];
      int& position = positionOf(stage, eventOf(a), a.chunk, a.microBatch);
      if (position >= 0)
        return fail(FaultKind::DuplicateAction, stage, i,
                    absl::StrCat("is also action ", position));
      position = i;
    }
  }

  bool isExpected(int stage, int event, int chunk) const {
    bool isFirst = schedule_.isFirst(stage, chunk);
    bool isLast = schedule_.isLast(stage, chunk);
    switch (event) {
    case kWeight:
      return schedule_.kind == ScheduleKind::ZeroBubble;
    case kSendActivation:
    case kRecvGradient:
      return !isLast;
    case kSendGradient:
    case kRecvActivation:
      return !isFirst;
    default:
      return true;
    }
  }

  void checkComplete(int stage) {
    static constexpr const char* kNames[kNumEvents] = {"Forward",
                                                       "backward segment",
                                                       "BackwardWeight",
                                                       "Send of the activation",
                                                       "Send of the gradient",
                                                       "Recv of the activation",
                                                       "Recv of the gradient"};
    for (int event = 0; event < kNumEvents; ++event)
      for (int chunk = 0; chunk < schedule_.virtualStages; ++chunk)
        for (int m = 0; m < schedule_.microBatches; ++m) {
          int index = positionOf(stage, static_cast<Event>(event), chunk, m);
          bool isThere = index >= 0;
          if (isThere == isExpected(stage, event, chunk))
            continue;
          if (isThere)
            return fail(FaultKind::BadAction, stage, index,
                        "transfers what no other stage makes or uses");
          return fail(FaultKind::MissingAction, stage, -1,
                      absl::StrCat("there is no ", kNames[event],
                                   " of micro-batch ", m, ", chunk ", chunk));
        }
  }

  void checkOrder(int stage) {
    for (int chunk = 0; chunk < schedule_.virtualStages; ++chunk)
      for (int m = 0; m < schedule_.microBatches; ++m) {
        auto at = [&](Event event, int microBatch) {
          return positionOf(stage, event, chunk, microBatch);
        };
        int forward = at(kForward, m), backward = at(kBackward, m);
        int weight = at(kWeight, m);
        if (backward < forward)
          return fail(FaultKind::WrongOrder, stage, backward,
                      "runs before its Forward");
        if (weight >= 0 && weight < backward)
          return fail(FaultKind::WrongOrder, stage, weight,
                      "runs before its BackwardInput");
        for (Event event : {kForward, kBackward, kWeight})
          if (m > 0 && at(event, m) < at(event, m - 1))
            return fail(FaultKind::WrongOrder, stage, at(event, m),
                        absl::StrCat("runs before that of micro-batch ", m - 1,
                                     ": sums over micro-batches would differ"));
        checkUse(stage, kRecvActivation, kForward, chunk, m, "activation");
        checkUse(stage, kRecvGradient, kBackward, chunk, m, "gradient");
        checkProduction(stage, kForward, kSendActivation, chunk, m);
        checkProduction(stage, kBackward, kSendGradient, chunk, m);
      }
  }

  void checkUse(int stage, Event recv, Event user, int chunk, int m,
                std::string_view payload) {
    int at = positionOf(stage, recv, chunk, m);
    int use = positionOf(stage, user, chunk, m);
    if (at >= 0 && use < at)
      fail(FaultKind::UseBeforeReceive, stage, use,
           absl::StrCat("runs before its ", std::string(payload),
                        " is received"));
  }

  void checkProduction(int stage, Event producer, Event send, int chunk,
                       int m) {
    int at = positionOf(stage, send, chunk, m);
    if (at >= 0 && at < positionOf(stage, producer, chunk, m))
      fail(FaultKind::SendBeforeProduction, stage, at,
           "runs before its payload is made");
  }

  /// The chunk at the other end of a transfer.
  ChunkOfStage otherEnd(int stage, const Action& a) const {
    bool isToNext = (a.kind == ActionKind::Send) != a.isGradient;
    return isToNext ? nextChunk(schedule_, stage, a.chunk)
                    : previousChunk(schedule_, stage, a.chunk);
  }

  void checkPeers(int stage) {
    for (int i = 0; i < static_cast<int>(list(stage).size()); ++i) {
      const Action& a = list(stage)[i];
      if (!isTransfer(a.kind))
        continue;
      int expected = otherEnd(stage, a).stage;
      if (a.peer != expected)
        return fail(FaultKind::WrongPeer, stage, i,
                    absl::StrCat("has stage ", expected, " as its other end"));
    }
  }

  void checkTransferOrder(int stage) {
    if (stage == 0)
      partners_ = matchTransfers(schedule_);
    for (int i = 0; i < static_cast<int>(list(stage).size()); ++i) {
      const Action& a = list(stage)[i];
      if (!isTransfer(a.kind))
        continue;
      int partner = partners_[stage][i];
      const Action* b = partner < 0 ? nullptr : &list(a.peer)[partner];
      ChunkOfStage end = otherEnd(stage, a);
      if (!b || b->chunk != end.chunk || b->microBatch != a.microBatch ||
          b->isGradient != a.isGradient)
        return fail(
            FaultKind::MismatchedTransfer, stage, i,
            absl::StrCat("meets ", b ? describe(*b) : std::string("nothing")));
    }
  }

  /// Follows the contents of the slots through the list.
  void checkSlots(int stage) {
    std::map<std::tuple<SlotClass, int, int>, std::pair<int, int>> contents;
    int inFlight = 0, limit = limitOf(stage);
    for (int i = 0; i < static_cast<int>(list(stage).size()); ++i) {
      const Action& a = list(stage)[i];
      std::pair<int, int> value = {a.chunk, a.microBatch};
      for (const SlotUse& use : slotUses(a)) {
        auto key = std::tuple(use.slotClass, use.chunk, use.slot);
        auto found = contents.find(key);
        std::string name = absl::StrCat(
            std::string(slotClassName(use.slotClass)), " slot ", use.slot);
        if (use.isWrite && found != contents.end())
          return fail(FaultKind::SlotConflict, stage, i,
                      absl::StrCat("writes ", name, ", which holds ",
                                   valueName(found->second)));
        if (!use.isWrite && (found == contents.end() || found->second != value))
          return fail(FaultKind::WrongSlot, stage, i,
                      absl::StrCat("reads ", name, ", which holds ",
                                   found == contents.end()
                                       ? std::string("nothing")
                                       : valueName(found->second)));
        if (use.isWrite)
          contents[key] = value;
        if (use.isLast)
          contents.erase(key);
        if (use.slotClass == SlotClass::Saved)
          inFlight += use.isWrite - use.isLast;
        if (inFlight > limit)
          return fail(FaultKind::OverActivationLimit, stage, i,
                      absl::StrCat("makes saved value ", inFlight,
                                   "; the limit is ", limit));
      }
    }
  }

  static std::string valueName(std::pair<int, int> value) {
    return absl::StrCat("micro-batch ", value.second, ", chunk ", value.first);
  }

  int limitOf(int stage) const {
    if (!limits_.inFlight.empty())
      return limits_.inFlight[stage];
    return inFlightLimit(schedule_.kind, schedule_.stages,
                         schedule_.microBatches, schedule_.virtualStages,
                         stage);
  }

  /// First action of each stage's list that never runs, or -1.
  std::vector<int> stuckActions(TransferModel model) const {
    auto spans = execute(schedule_, partners_, model,
                         [](int, const Action&) { return 1.0; });
    std::vector<int> stuck;
    for (const std::vector<Span>& list : spans) {
      auto found = std::find_if(list.begin(), list.end(),
                                [](const Span& span) { return span.end < 0; });
      stuck.push_back(
          found == list.end() ? -1 : static_cast<int>(found - list.begin()));
    }
    return stuck;
  }

  /// In a list that passed the steps before, both models hang together: what an
  /// action does for another stage leaves through a transfer behind it, and
  /// that waits on the transfer thread for the same transfers as the action
  /// does in the list. Both are run all the same: it is the runtime's two ways
  /// of working that are proven.
  void checkDeadlock() {
    if (fault_)
      return;
    std::vector<int> blocking = stuckActions(TransferModel::Blocking);
    std::vector<int> thread = stuckActions(TransferModel::TransferThread);
    bool isBlockingStuck =
        *std::max_element(blocking.begin(), blocking.end()) >= 0;
    bool isThreadStuck = *std::max_element(thread.begin(), thread.end()) >= 0;
    if (!isBlockingStuck && !isThreadStuck)
      return;
    const std::vector<int>& stuck = isBlockingStuck ? blocking : thread;
    std::string others;
    int first = -1;
    for (int stage = 0; stage < schedule_.stages; ++stage) {
      if (stuck[stage] < 0)
        continue;
      if (first < 0)
        first = stage;
      else
        absl::StrAppend(&others, "; stage ", stage, " waits in action ",
                        stuck[stage], ": ",
                        describe(list(stage)[stuck[stage]]));
    }
    std::string how = isBlockingStuck && isThreadStuck
                          ? "with blocking transfers nor with a transfer thread"
                      : isBlockingStuck ? "with blocking transfers"
                                        : "with a transfer thread";
    fail(FaultKind::Deadlock, first, stuck[first],
         absl::StrCat("never runs ", how, others));
  }

  const Schedule& schedule_;
  const ScheduleLimits& limits_;
  std::optional<Fault> fault_;
  std::vector<int> position_; // [stages][events][chunks][micro-batches]
  std::vector<std::vector<int>> partners_;
};

} // namespace

std::string_view faultKindName(FaultKind kind) {
  switch (kind) {
  case FaultKind::BadShape:
    return "BadShape";
  case FaultKind::BadAction:
    return "BadAction";
  case FaultKind::MissingAction:
    return "MissingAction";
  case FaultKind::DuplicateAction:
    return "DuplicateAction";
  case FaultKind::WrongOrder:
    return "WrongOrder";
  case FaultKind::WrongPeer:
    return "WrongPeer";
  case FaultKind::MismatchedTransfer:
    return "MismatchedTransfer";
  case FaultKind::UseBeforeReceive:
    return "UseBeforeReceive";
  case FaultKind::SendBeforeProduction:
    return "SendBeforeProduction";
  case FaultKind::SlotConflict:
    return "SlotConflict";
  case FaultKind::WrongSlot:
    return "WrongSlot";
  case FaultKind::Deadlock:
    return "Deadlock";
  case FaultKind::OverActivationLimit:
    return "OverActivationLimit";
  }
  return "";
}

std::optional<Fault> check(const Schedule& schedule,
                           const ScheduleLimits& limits) {
  return Checker(schedule, limits).run();
}

} // namespace llmc::schedule
