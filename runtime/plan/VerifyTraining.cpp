// SPDX-License-Identifier: Apache-2.0
// Checks of what only a training plan has: states and the schedule.
#include "runtime/plan/VerifyPlan.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelAbi.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace llmrt {

absl::Status verifyStates(const fb::Plan& plan, const fb::Stage& stage,
                          const Place& outer) {
  std::set<absl::string_view> names;
  for (int64_t i = 0; i < lengthOf(stage.states()); ++i) {
    const fb::State* state = stage.states()->Get(i);
    Place place{&outer, "states", i};
    LLMRT_PLAN_CHECK(names.insert(textOf(state->name())).second, place,
                     "the name is used twice");
    LLMRT_PLAN_CHECK(state->role() >= fb::StateRole::MIN &&
                         state->role() <= fb::StateRole::MAX &&
                         isElementType(state->dtype()),
                     place, "unknown role or dtype");
    LLMRT_PLAN_CHECK(
        isWithin(state->buffer(), 0, lengthOf(stage.buffers()) - 1), place,
        "its buffer does not exist");
    int64_t sizeBytes = stage.buffers()->Get(state->buffer())->size_bytes();
    bool isScalar = state->role() == fb::StateRole::Scalar;
    LLMRT_PLAN_CHECK(isWithin(state->parameter(), isScalar ? -1 : 0,
                              isScalar ? -1 : lengthOf(stage.parameters()) - 1),
                     place, "its parameter does not exist");
    LLMRT_PLAN_CHECK(
        isWithin(multiply(state->elements(),
                          dtypeBytes(static_cast<DType>(state->dtype()))),
                 0, sizeBytes) &&
            isWithin(state->shard_bytes(), 0, sizeBytes),
        place, "it does not fit its buffer");
    if (lengthOf(state->shard_axes()) > 0) {
      Place axes{&place, "shard_axes"};
      LLMRT_RETURN_IF_ERROR(verifyAxes(plan, state->shard_axes(), axes));
    }
  }
  return absl::OkStatus();
}

namespace {

// By SlotKind: slots that exist in every buffer of that kind that a program
// names. Chunks of a stage may have different numbers of saved values.
using SlotCounts = std::vector<int64_t>;

SlotCounts fewestSlots(const fb::Stage& stage, const fb::Program& program) {
  SlotCounts fewest(static_cast<int>(fb::SlotKind::MAX) + 1, kMaxSlots);
  auto name = [&](int number) {
    // Fields that a command of this kind does not use are not verified.
    if (!isWithin(number, 0, lengthOf(stage.buffers()) - 1))
      return;
    const fb::Buffer* buffer = stage.buffers()->Get(number);
    int64_t& slots = fewest[static_cast<int>(buffer->slot_kind())];
    slots = std::min<int64_t>(slots, buffer->slots());
  };
  auto nameAll = [&](const auto* words) {
    for (int64_t i = 0; i < lengthOf(words); ++i)
      if (words->Get(i)->kind() == fb::WordKind::Address)
        name(words->Get(i)->index());
  };
  for (int64_t i = 0; i < lengthOf(program.commands()); ++i) {
    const fb::Command* command = program.commands()->Get(i);
    name(command->send_buffer());
    name(command->recv_buffer());
    nameAll(command->words());
    for (int64_t s = 0; s < lengthOf(command->slots()); ++s)
      nameAll(command->slots()->Get(s)->words());
  }
  return fewest;
}

} // namespace

// Needs verified programs.
absl::Status verifySchedule(const fb::Plan& plan, const fb::Stage& stage,
                            const Place& outer) {
  std::map<int, SlotCounts> counts; // by entry
  for (int64_t i = 0; i < lengthOf(stage.programs()); ++i) {
    const fb::Program* program = stage.programs()->Get(i);
    counts[program->entry()] = fewestSlots(stage, *program);
  }
  bool isTraining = textOf(plan.mode()) == "train";
  Place all{&outer, "schedule"};
  LLMRT_PLAN_CHECK(isTraining == (lengthOf(stage.schedule()) > 0), all,
                   "only a training step has one");
  constexpr int kMicroBatch = static_cast<int>(fb::SlotKind::MicroBatch);
  constexpr int kFirst = static_cast<int>(fb::SlotKind::Saved);
  for (int64_t i = 0; i < lengthOf(stage.schedule()); ++i) {
    const fb::Action* action = stage.schedule()->Get(i);
    Place place{&outer, "schedule", i};
    auto found = counts.find(action->entry());
    LLMRT_PLAN_CHECK(found != counts.end(), place,
                     "the stage has no program for its entry");
    const SlotCounts& slots = found->second;
    LLMRT_PLAN_CHECK(
        isWithin(action->micro_batch(), -1,
                 std::min<int64_t>(plan.micro_batches(), slots[kMicroBatch]) -
                     1),
        place, "its micro-batch does not exist");
    LLMRT_PLAN_CHECK(isAligned(action->slots()) &&
                         lengthOf(action->slots()) <=
                             static_cast<int64_t>(slots.size()) - kFirst,
                     place, "more slots than there are kinds");
    for (int64_t s = 0; s < lengthOf(action->slots()); ++s)
      LLMRT_PLAN_CHECK(
          isWithin(action->slots()->Get(s), -1, slots[kFirst + s] - 1), place,
          absl::StrCat("slot ", action->slots()->Get(s), " does not exist"));
  }
  return absl::OkStatus();
}

} // namespace llmrt
