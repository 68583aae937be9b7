// SPDX-License-Identifier: Apache-2.0
// Adds transfers and slots to the compute order. All actions of all stages are
// put into one total order: a compute action stands at the time when it ends, a
// transfer at the time when it arrives, if each takes its expected time. Its
// producer ends before, and its consumer ends after, so a stage that takes its
// part of this order waits only for what is earlier in it: no deadlock, with
// blocking transfers or with a transfer thread, and however long anything
// really takes.
#include "compiler/schedule/Schedule.h"
#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <tuple>

namespace llmc::schedule {
namespace {

absl::Status refuse(std::string_view what, std::string_view advice) {
  return llmrt::makeError(llmrt::ErrorCode::MeshDoesNotFit, what, advice);
}

/// An end must differ from its start in double precision, also late in a long
/// step.
constexpr double kMaxTimeRatio = 1e6;

absl::Status checkExpected(const ScheduleOptions& o) {
  const StepCosts& expected = o.expected;
  size_t numChunks = static_cast<size_t>(o.stages) * o.virtualStages;
  if (expected.segments.size() != 1 && expected.segments.size() != numChunks)
    return absl::InvalidArgumentError(
        absl::StrCat("expected times of ", expected.segments.size(),
                     " segments for ", numChunks, " chunks"));
  double least = INFINITY, most = expected.transfer;
  for (const SegmentTimes& times : expected.segments)
    for (double time :
         {times.forward, times.backwardInput, times.backwardWeight}) {
      least = std::min(least, time);
      most = std::max(most, time);
    }
  // Written so that a NaN is refused too.
  if (!(least > 0) || !(most <= kMaxTimeRatio * least) ||
      !(expected.transfer >= 0))
    return absl::InvalidArgumentError(
        absl::StrCat("expected times from ", least, " to ", most, ", transfer ",
                     expected.transfer, ": not positive, or more than ",
                     kMaxTimeRatio, " apart"));
  return absl::OkStatus();
}

absl::Status checkOptions(const ScheduleOptions& o) {
  std::string name(scheduleKindName(o.kind));
  if (o.stages < 1 || o.microBatches < 1 || o.virtualStages < 1 ||
      o.extraTransferSlots < 0)
    return refuse(absl::StrCat("schedule ", name, " with ", o.stages,
                               " stages, ", o.microBatches, " micro-batches, ",
                               o.virtualStages, " virtual stages"),
                  "each must be at least 1");
  LLMRT_RETURN_IF_ERROR(checkExpected(o));
  if (o.virtualStages == 1)
    return absl::OkStatus();
  if (o.kind != ScheduleKind::Interleaved)
    return refuse(absl::StrCat("schedule ", name, " with ", o.virtualStages,
                               " virtual stages"),
                  "use --schedule=interleaved, or one virtual stage");
  if (o.stages == 1)
    return refuse(absl::StrCat("interleaved schedule of ", o.virtualStages,
                               " virtual stages on one stage"),
                  "use at least 2 stages, or one virtual stage");
  if (o.microBatches % o.stages != 0)
    return refuse(
        absl::StrCat("interleaved schedule of ", o.microBatches,
                     " micro-batches on ", o.stages, " stages: not a multiple"),
        absl::StrCat(
            "use --microbatches=", (o.microBatches / o.stages + 1) * o.stages,
            ", or --schedule=1f1b or zero-bubble, which take any number"));
  return absl::OkStatus();
}

/// Where in the total order an action stands. Ties between transfers: gradients
/// first (the critical path), then even senders before odd ones, so that a
/// chain of neighbours that all send at once takes two rounds and not P.
using OrderKey = std::tuple<double, bool, bool, int, int>;

struct Placed {
  OrderKey key;
  Action action;
};

/// Merges transfers into the compute order.
class Merger {
public:
  explicit Merger(Schedule& schedule, std::vector<std::vector<Action>> order,
                  const StepCosts& costs)
      : schedule_(schedule), order_(std::move(order)), costs_(costs),
        placed_(schedule.stages), next_(schedule.stages),
        clock_(schedule.stages) {
    size_t numSegments = static_cast<size_t>(schedule.stages) *
                         schedule.virtualStages * schedule.microBatches;
    activationEnd_.assign(numSegments, -1);
    gradientEnd_.assign(numSegments, -1);
  }

  void run() {
    for (bool moves = true; moves;) {
      moves = false;
      for (int stage = 0; stage < schedule_.stages; ++stage)
        while (step(stage))
          moves = true;
    }
    for (int stage = 0; stage < schedule_.stages; ++stage) {
      std::sort(placed_[stage].begin(), placed_[stage].end(),
                [](const Placed& a, const Placed& b) { return a.key < b.key; });
      std::vector<Action> actions;
      for (const Placed& placed : placed_[stage])
        actions.push_back(placed.action);
      schedule_.actions.push_back(std::move(actions));
    }
  }

private:
  double& endOf(std::vector<double>& ends, ChunkOfStage at, int microBatch) {
    return ends[(static_cast<size_t>(at.chunk) * schedule_.stages + at.stage) *
                    schedule_.microBatches +
                microBatch];
  }

  bool step(int stage) {
    if (next_[stage] == order_[stage].size())
      return false;
    Action action = order_[stage][next_[stage]];
    ChunkOfStage here = {stage, action.chunk};
    bool isForward = action.kind == ActionKind::Forward;
    bool isWeight = action.kind == ActionKind::BackwardWeight;
    double start = clock_[stage];
    if (isForward && !schedule_.isFirst(stage, action.chunk)) {
      double arrival =
          endOf(activationEnd_, previousChunk(schedule_, stage, action.chunk),
                action.microBatch);
      if (arrival < 0)
        return false;
      start = std::max(start, arrival + costs_.transfer);
    }
    if (!isForward && !isWeight && !schedule_.isLast(stage, action.chunk)) {
      double arrival =
          endOf(gradientEnd_, nextChunk(schedule_, stage, action.chunk),
                action.microBatch);
      if (arrival < 0)
        return false;
      start = std::max(start, arrival + costs_.transfer);
    }
    double end = start + costs_.of(action, stage, schedule_.stages);
    clock_[stage] = end;
    ++next_[stage];
    placed_[stage].push_back({{end, false, false, 0, 0}, action});
    if (isForward) {
      endOf(activationEnd_, here, action.microBatch) = end;
      if (!schedule_.isLast(stage, action.chunk))
        transfer(here, nextChunk(schedule_, stage, action.chunk),
                 action.microBatch, false, end);
    } else if (!isWeight) {
      endOf(gradientEnd_, here, action.microBatch) = end;
      if (!schedule_.isFirst(stage, action.chunk))
        transfer(here, previousChunk(schedule_, stage, action.chunk),
                 action.microBatch, true, end);
    }
    return true;
  }

  void transfer(ChunkOfStage from, ChunkOfStage to, int microBatch,
                bool isGradient, double end) {
    OrderKey key = {end + costs_.transfer, true, !isGradient, from.stage % 2,
                    from.stage};
    Action action;
    action.microBatch = microBatch;
    action.isGradient = isGradient;
    action.kind = ActionKind::Send;
    action.chunk = from.chunk;
    action.peer = to.stage;
    placed_[from.stage].push_back({key, action});
    action.kind = ActionKind::Recv;
    action.chunk = to.chunk;
    action.peer = from.stage;
    placed_[to.stage].push_back({key, action});
  }

  Schedule& schedule_;
  std::vector<std::vector<Action>> order_;
  const StepCosts& costs_;
  std::vector<std::vector<Placed>> placed_;
  std::vector<size_t> next_;
  std::vector<double> clock_;
  std::vector<double> activationEnd_,
      gradientEnd_; // by global stage and micro-batch
};

/// Marks with slot 0 the slots that an action of this kind and place has.
void markSlots(const Schedule& schedule, int stage, Action& action) {
  bool isFirst = schedule.isFirst(stage, action.chunk);
  bool isLast = schedule.isLast(stage, action.chunk);
  switch (action.kind) {
  case ActionKind::Send:
    action.sendSlot = 0;
    return;
  case ActionKind::Recv:
    (action.isGradient ? action.gradientSlot : action.activationSlot) = 0;
    return;
  case ActionKind::Forward:
    action.sendSlot = isLast ? -1 : 0;
    break;
  case ActionKind::Backward:
  case ActionKind::BackwardInput:
    action.gradientSlot = isLast ? -1 : 0;
    action.sendSlot = isFirst ? -1 : 0;
    break;
  case ActionKind::BackwardWeight:
    break;
  }
  action.savedSlot = 0;
  action.activationSlot = isFirst ? -1 : 0;
  if (action.kind == ActionKind::BackwardInput ||
      action.kind == ActionKind::BackwardWeight)
    action.deferredSlot = 0;
}

int& slotField(Action& action, SlotClass slotClass) {
  switch (slotClass) {
  case SlotClass::Saved:
    return action.savedSlot;
  case SlotClass::Deferred:
    return action.deferredSlot;
  case SlotClass::ReceivedActivation:
    return action.activationSlot;
  case SlotClass::ReceivedGradient:
    return action.gradientSlot;
  case SlotClass::SentActivation:
  case SlotClass::SentGradient:
    return action.sendSlot;
  }
  return action.savedSlot;
}

/// Hands out the slots of one class (and chunk) of a stage.
struct SlotPool {
  std::vector<int> slotOf; // [chunks * micro-batches], -1 while dead
  std::deque<int> free;
  int numLive = 0, peak = 0, numValues = 0;
};

/// Numbers the slots of one stage.
class SlotNumbering {
public:
  SlotNumbering(Schedule& schedule, int stage)
      : schedule_(schedule), stage_(stage) {
    pools_.resize(kNumSlotClasses * schedule.virtualStages);
    for (SlotPool& pool : pools_)
      pool.slotOf.assign(static_cast<size_t>(schedule.virtualStages) *
                             schedule.microBatches,
                         -1);
  }

  void run(int extraTransferSlots) {
    for (Action& action : schedule_.actions[stage_])
      markSlots(schedule_, stage_, action);
    measure();
    for (size_t i = 0; i < pools_.size(); ++i) {
      SlotPool& pool = pools_[i];
      int numSlots = pool.peak;
      if (!isOrdered(classOf(i)))
        numSlots = std::min(pool.peak + extraTransferSlots, pool.numValues);
      pool.peak = numSlots;
      for (int slot = 0; slot < numSlots; ++slot)
        pool.free.push_back(slot);
    }
    for (Action& action : schedule_.actions[stage_])
      number(action);
    report();
  }

private:
  /// Saved values take the smallest free slot. Transfers take the slot that has
  /// been free for longest, so that it is surely read or sent when they run.
  static bool isOrdered(SlotClass slotClass) {
    return slotClass == SlotClass::Saved || slotClass == SlotClass::Deferred;
  }

  SlotClass classOf(size_t pool) const {
    return static_cast<SlotClass>(pool / schedule_.virtualStages);
  }

  SlotPool& poolOf(const SlotUse& use) {
    return pools_[static_cast<size_t>(use.slotClass) * schedule_.virtualStages +
                  use.chunk];
  }

  void measure() {
    int saved = 0;
    for (const Action& action : schedule_.actions[stage_])
      for (const SlotUse& use : slotUses(action)) {
        SlotPool& pool = poolOf(use);
        int change = use.isWrite ? 1 : use.isLast ? -1 : 0;
        pool.numLive += change;
        pool.numValues += use.isWrite;
        pool.peak = std::max(pool.peak, pool.numLive);
        if (use.slotClass == SlotClass::Saved)
          saved += change;
        inFlight_ = std::max(inFlight_, saved);
      }
  }

  void number(Action& action) {
    int value = action.chunk * schedule_.microBatches + action.microBatch;
    for (const SlotUse& use : slotUses(action)) {
      SlotPool& pool = poolOf(use);
      int& slot = pool.slotOf[value];
      if (use.isWrite) {
        auto at = isOrdered(use.slotClass)
                      ? std::min_element(pool.free.begin(), pool.free.end())
                      : pool.free.begin();
        slot = *at;
        pool.free.erase(at);
      }
      slotField(action, use.slotClass) = slot;
      if (use.isLast) {
        pool.free.push_back(slot);
        slot = -1;
      }
    }
  }

  void report() {
    StageSlots slots;
    auto peak = [&](SlotClass slotClass, int chunk) {
      return poolOf({slotClass, chunk}).peak;
    };
    for (int chunk = 0; chunk < schedule_.virtualStages; ++chunk) {
      slots.saved.push_back(peak(SlotClass::Saved, chunk));
      slots.deferred.push_back(peak(SlotClass::Deferred, chunk));
    }
    slots.receivedActivation = peak(SlotClass::ReceivedActivation, 0);
    slots.receivedGradient = peak(SlotClass::ReceivedGradient, 0);
    slots.sentActivation = peak(SlotClass::SentActivation, 0);
    slots.sentGradient = peak(SlotClass::SentGradient, 0);
    slots.inFlight = inFlight_;
    schedule_.slots.push_back(std::move(slots));
  }

  Schedule& schedule_;
  int stage_;
  std::vector<SlotPool> pools_; // [classes][chunks]; shared classes use chunk 0
  int inFlight_ = 0;
};

} // namespace

absl::StatusOr<Schedule> makeSchedule(const ScheduleOptions& options) {
  LLMRT_RETURN_IF_ERROR(checkOptions(options));
  Schedule schedule;
  schedule.kind = options.kind;
  schedule.stages = options.stages;
  schedule.microBatches = options.microBatches;
  schedule.virtualStages = options.virtualStages;
  Merger(schedule, computeOrder(options), options.expected).run();
  for (int stage = 0; stage < options.stages; ++stage)
    SlotNumbering(schedule, stage).run(options.extraTransferSlots);
  return schedule;
}

} // namespace llmc::schedule
