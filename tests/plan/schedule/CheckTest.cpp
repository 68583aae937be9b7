// SPDX-License-Identifier: Apache-2.0
// Each fault of a schedule, made by hand, is named with its stage and action.
#include "compiler/schedule/Check.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmc::schedule {
namespace {

using ::testing::HasSubstr;

Schedule make(ScheduleKind kind, int stages, int microBatches,
              int virtualStages = 1) {
  return *makeSchedule({kind, stages, microBatches, virtualStages});
}

/// Index of an action in a stage's list.
int find(const Schedule& schedule, int stage, ActionKind kind, int microBatch,
         bool isGradient = false) {
  const std::vector<Action>& list = schedule.actions[stage];
  auto found =
      std::find_if(list.begin(), list.end(), [&](const Action& action) {
        return action.kind == kind && action.microBatch == microBatch &&
               action.isGradient == isGradient;
      });
  return static_cast<int>(found - list.begin());
}

void move(Schedule& schedule, int stage, int from, int to) {
  std::vector<Action>& list = schedule.actions[stage];
  Action action = list[from];
  list.erase(list.begin() + from);
  list.insert(list.begin() + to, action);
}

void expectFault(const Schedule& schedule, FaultKind kind, int stage,
                 std::string_view message, const ScheduleLimits& limits = {}) {
  auto fault = check(schedule, limits);
  ASSERT_TRUE(fault);
  EXPECT_EQ(faultKindName(fault->kind), faultKindName(kind)) << fault->message;
  EXPECT_EQ(fault->stage, stage);
  EXPECT_THAT(fault->message, HasSubstr(std::string(message)));
}

constexpr ScheduleKind k1F1B = ScheduleKind::OneForwardOneBackward;

TEST(Check, AcceptsEveryScheduleThatIsMade) {
  for (ScheduleKind kind :
       {ScheduleKind::GPipe, k1F1B, ScheduleKind::Interleaved,
        ScheduleKind::ZeroBubble})
    for (int stages = 1; stages <= 9; ++stages)
      for (int microBatches = 1; microBatches <= 18; ++microBatches)
        for (int virtualStages = 1; virtualStages <= 3; ++virtualStages)
          for (double transfer : {0.0, 0.0625, 3.0}) {
            ScheduleOptions options{kind, stages, microBatches, virtualStages};
            options.expected.transfer = transfer;
            auto schedule = makeSchedule(options);
            if (!schedule.ok())
              continue;
            auto fault = check(*schedule);
            ASSERT_FALSE(fault) << scheduleKindName(kind) << ", P " << stages
                                << ", M " << microBatches << ", V "
                                << virtualStages << ": " << fault->message;
          }
}

TEST(Check, NamesBadShape) {
  Schedule schedule = make(k1F1B, 2, 2);
  schedule.slots.pop_back();
  expectFault(schedule, FaultKind::BadShape, -1,
              "schedule: 2 lists and 1 slot counts for 2 stages");
}

TEST(Check, NamesBadAction) {
  Schedule schedule = make(k1F1B, 3, 4);
  int at = find(schedule, 1, ActionKind::Forward, 2);
  schedule.actions[1][at].savedSlot = 9;
  expectFault(schedule, FaultKind::BadAction, 1,
              "Forward of micro-batch 2, chunk 0, has 9 as its saved slot");
}

TEST(Check, NamesMissingAction) {
  Schedule schedule = make(ScheduleKind::ZeroBubble, 3, 4);
  std::vector<Action>& list = schedule.actions[2];
  list.erase(list.begin() + find(schedule, 2, ActionKind::BackwardWeight, 3));
  expectFault(schedule, FaultKind::MissingAction, 2,
              "stage 2: there is no BackwardWeight of micro-batch 3, chunk 0");
}

TEST(Check, NamesDuplicateAction) {
  Schedule schedule = make(k1F1B, 2, 2);
  std::vector<Action>& list = schedule.actions[1];
  list.push_back(list[1]);
  expectFault(schedule, FaultKind::DuplicateAction, 1, "is also action 1");
}

TEST(Check, NamesWrongOrder) {
  Schedule schedule = make(k1F1B, 1, 2);
  std::swap(schedule.actions[0][0], schedule.actions[0][1]);
  expectFault(schedule, FaultKind::WrongOrder, 0, "runs before its Forward");
  schedule = make(ScheduleKind::GPipe, 1, 3);
  std::swap(schedule.actions[0][4], schedule.actions[0][5]);
  expectFault(
      schedule, FaultKind::WrongOrder, 0,
      "action 4: Backward of micro-batch 2, chunk 0, runs before that of "
      "micro-batch 1");
}

TEST(Check, NamesWrongPeer) {
  Schedule schedule = make(k1F1B, 3, 2);
  int at = find(schedule, 0, ActionKind::Send, 1);
  schedule.actions[0][at].peer = 2;
  expectFault(schedule, FaultKind::WrongPeer, 0,
              "has stage 1 as its other end");
}

TEST(Check, NamesMismatchedTransfer) {
  Schedule schedule = make(ScheduleKind::GPipe, 2, 2);
  std::vector<Action>& list = schedule.actions[1];
  int first = find(schedule, 1, ActionKind::Recv, 0);
  int second = find(schedule, 1, ActionKind::Recv, 1);
  ASSERT_LT(second, find(schedule, 1, ActionKind::Forward, 0) + 2);
  Action late = list[second];
  list.erase(list.begin() + second);
  list.insert(list.begin() + first, late);
  expectFault(schedule, FaultKind::MismatchedTransfer, 0,
              "meets Recv of the activation of micro-batch 1");
}

TEST(Check, NamesUseBeforeReceive) {
  Schedule schedule = make(k1F1B, 4, 6);
  int recv = find(schedule, 2, ActionKind::Recv, 3, true);
  int use = find(schedule, 2, ActionKind::Backward, 3);
  move(schedule, 2, recv, use);
  expectFault(schedule, FaultKind::UseBeforeReceive, 2,
              "Backward of micro-batch 3, chunk 0, runs before its gradient is "
              "received");
}

TEST(Check, NamesSendBeforeProduction) {
  Schedule schedule = make(k1F1B, 2, 2);
  std::swap(schedule.actions[0][0], schedule.actions[0][1]);
  ASSERT_EQ(schedule.actions[0][0].kind, ActionKind::Send);
  expectFault(schedule, FaultKind::SendBeforeProduction, 0,
              "Send of the activation of micro-batch 0, chunk 0, to stage 1, "
              "runs before "
              "its payload is made");
}

TEST(Check, NamesSlotConflict) {
  Schedule schedule = make(ScheduleKind::GPipe, 2, 3);
  int at = find(schedule, 0, ActionKind::Forward, 2);
  schedule.actions[0][at].savedSlot = 0;
  expectFault(schedule, FaultKind::SlotConflict, 0,
              "writes saved slot 0, which holds micro-batch 0, chunk 0");
}

TEST(Check, NamesWrongSlot) {
  Schedule schedule = make(ScheduleKind::GPipe, 2, 3);
  int at = find(schedule, 1, ActionKind::Backward, 1);
  schedule.actions[1][at].savedSlot = 2;
  expectFault(schedule, FaultKind::WrongSlot, 1,
              "reads saved slot 2, which holds micro-batch 2, chunk 0");
}

// Stage 0 now waits for a gradient before it sends what stage 1 wants first.
TEST(Check, NamesDeadlock) {
  Schedule schedule = make(k1F1B, 2, 3);
  int send = find(schedule, 0, ActionKind::Send, 1);
  int recv = find(schedule, 0, ActionKind::Recv, 0, true);
  ASSERT_LT(send, recv);
  move(schedule, 0, send, recv);
  expectFault(
      schedule, FaultKind::Deadlock, 0,
      "Recv of the gradient of micro-batch 0, chunk 0, from stage 1, never "
      "runs "
      "with blocking transfers nor with a transfer thread; stage 1 waits in "
      "action 2: Recv of the activation of micro-batch 1");
}

TEST(Check, NamesOverActivationLimit) {
  expectFault(
      make(ScheduleKind::GPipe, 4, 8), FaultKind::OverActivationLimit, 1,
      "Forward of micro-batch 3, chunk 0, makes saved value 4; the limit is 3",
      {{8, 3, 8, 8}});
  Schedule schedule = make(ScheduleKind::GPipe, 4, 8);
  schedule.kind = k1F1B;
  expectFault(schedule, FaultKind::OverActivationLimit, 0,
              "makes saved value 5");
}

} // namespace
} // namespace llmc::schedule
