// SPDX-License-Identifier: Apache-2.0
// Breaks schedules at random: whatever the checker lets pass must still run to
// the same losses and gradients.
#include "compiler/schedule/Check.h"
#include "tests/plan/schedule/ScheduleInterpreter.h"

#include <algorithm>
#include <cstdio>
#include <gtest/gtest.h>
#include <map>
#include <random>

namespace llmc::schedule {
namespace {

using test::interpret;
using test::Outcome;
using test::Threads;

class Random {
public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int upTo(int last) { return between(0, last); }

  int between(int first, int last) {
    return std::uniform_int_distribution<int>(first, last)(engine_);
  }

private:
  std::mt19937_64 engine_;
};

ScheduleOptions randomOptions(Random& random) {
  ScheduleOptions options;
  options.kind = static_cast<ScheduleKind>(random.upTo(3));
  options.stages = random.between(1, 6);
  options.microBatches = random.between(1, 8);
  if (options.kind == ScheduleKind::Interleaved && options.stages > 1) {
    options.virtualStages = random.between(1, 3);
    if (options.virtualStages > 1)
      options.microBatches = options.stages * random.between(1, 2);
  }
  options.extraTransferSlots = random.upTo(2);
  options.expected.transfer = random.upTo(3) * 0.25;
  options.expected.segments = {{static_cast<double>(random.between(1, 4)),
                                static_cast<double>(random.between(1, 4)),
                                static_cast<double>(random.between(1, 4))}};
  return options;
}

enum class Mutation { Drop, Duplicate, Reorder, ReAddress };
constexpr int kNumMutations = 4;

/// Another value for a field: near, or anything up to one too many.
void change(Random& random, int& field, int count) {
  int old = field;
  while (field == old)
    field = random.upTo(1) ? old + random.between(-2, 2)
                           : random.between(-1, count);
}

void reAddress(Random& random, const Schedule& schedule, Action& action) {
  switch (random.upTo(9)) {
  case 0:
    return change(random, action.chunk, schedule.virtualStages);
  case 1:
    return change(random, action.microBatch, schedule.microBatches);
  case 2:
    return change(random, action.peer, schedule.stages);
  case 3:
    action.isGradient = !action.isGradient;
    return;
  case 4:
    return change(random, action.savedSlot, schedule.microBatches);
  case 5:
    return change(random, action.deferredSlot, schedule.microBatches);
  case 6:
    return change(random, action.activationSlot, schedule.microBatches);
  case 7:
    return change(random, action.gradientSlot, 3);
  case 8:
    return change(random, action.sendSlot, 3);
  case 9: {
    ActionKind old = action.kind;
    while (action.kind == old)
      action.kind = static_cast<ActionKind>(random.upTo(5));
    return;
  }
  }
}

Schedule mutate(Random& random, Schedule schedule, Mutation mutation) {
  std::vector<Action>& list =
      schedule.actions[random.upTo(schedule.stages - 1)];
  int last = static_cast<int>(list.size()) - 1;
  int at = random.upTo(last);
  Action action = list[at];
  switch (mutation) {
  case Mutation::Drop:
    list.erase(list.begin() + at);
    break;
  case Mutation::Duplicate:
    list.insert(list.begin() + random.upTo(last + 1), action);
    break;
  case Mutation::Reorder: {
    list.erase(list.begin() + at);
    int to = random.upTo(1) ? random.upTo(last) : at + random.between(-3, 3);
    list.insert(list.begin() + std::clamp(to, 0, last), action);
    break;
  }
  case Mutation::ReAddress:
    reAddress(random, schedule, list[at]);
    break;
  }
  return schedule;
}

/// Runs under both semantics and several interleavings; all must agree.
::testing::AssertionResult runsTo(const Outcome& expected,
                                  const Schedule& schedule) {
  for (Threads threads : {Threads::One, Threads::ComputeAndTransfer})
    for (uint64_t seed : {1, 2, 3}) {
      Outcome outcome = interpret(schedule, threads, seed);
      std::string how = threads == Threads::One ? "blocking" : "asynchronous";
      if (outcome.hangs)
        return ::testing::AssertionFailure() << how << " run hangs";
      if (outcome != expected)
        return ::testing::AssertionFailure()
               << how << " run gives other results";
    }
  return ::testing::AssertionSuccess();
}

constexpr int kNumSchedules = 1000;

TEST(Mutations, AreRejectedOrHarmless) {
  static constexpr const char* kNames[] = {"drop", "duplicate", "reorder",
                                           "re-address"};
  int accepted[kNumMutations] = {}, rejected[kNumMutations] = {};
  int harmful[kNumMutations] = {};
  std::map<std::string, int> faults;
  for (int i = 0; i < kNumSchedules; ++i) {
    Random random(i);
    ScheduleOptions options = randomOptions(random);
    auto schedule = makeSchedule(options);
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    SCOPED_TRACE(testing::Message()
                 << "schedule " << i << ": " << scheduleKindName(options.kind)
                 << ", P " << options.stages << ", M " << options.microBatches
                 << ", V " << options.virtualStages);
    auto fault = check(*schedule);
    ASSERT_FALSE(fault) << fault->message;
    Outcome expected = interpret(*schedule, Threads::One, 0);
    ASSERT_TRUE(runsTo(expected, *schedule));
    for (int kind = 0; kind < kNumMutations; ++kind) {
      Schedule mutant = *schedule;
      for (int tries = 0; tries < 20 && mutant.actions == schedule->actions;
           ++tries)
        mutant = mutate(random, *schedule, static_cast<Mutation>(kind));
      fault = check(mutant);
      if (fault) {
        ++rejected[kind];
        harmful[kind] += !runsTo(expected, mutant);
        ++faults[std::string(faultKindName(fault->kind))];
        EXPECT_FALSE(fault->message.empty());
        continue;
      }
      ++accepted[kind];
      ASSERT_TRUE(runsTo(expected, mutant)) << kNames[kind];
    }
  }
  for (int kind = 0; kind < kNumMutations; ++kind)
    std::printf(
        "%-10s %4d rejected (%4d hang or give other results), %4d accepted, "
        "all with the same results\n",
        kNames[kind], rejected[kind], harmful[kind], accepted[kind]);
  for (const auto& [name, count] : faults)
    std::printf("%-22s %4d\n", name.c_str(), count);
  // The interpreter is no rubber stamp: most of what is rejected is wrong for
  // it too.
  for (int kind = 0; kind < kNumMutations; ++kind)
    EXPECT_GT(harmful[kind], rejected[kind] / 4) << kNames[kind];
  // Nothing may be dropped or doubled without being missed.
  EXPECT_EQ(accepted[static_cast<int>(Mutation::Drop)], 0);
  EXPECT_EQ(accepted[static_cast<int>(Mutation::Duplicate)], 0);
}

// Four global stages under each schedule: every sum has the same order.
TEST(Interpreter, AllSchedulesGiveTheSameResults) {
  auto run = [](ScheduleOptions options) {
    auto schedule = makeSchedule(options);
    EXPECT_TRUE(schedule.ok()) << schedule.status();
    return interpret(*schedule, Threads::ComputeAndTransfer, 7);
  };
  Outcome expected = run({ScheduleKind::GPipe, 4, 6});
  EXPECT_FALSE(expected.hangs);
  EXPECT_EQ(run({ScheduleKind::OneForwardOneBackward, 4, 6}), expected);
  EXPECT_EQ(run({ScheduleKind::ZeroBubble, 4, 6}), expected);
  EXPECT_EQ(run({ScheduleKind::Interleaved, 2, 6, 2}), expected);
}

} // namespace
} // namespace llmc::schedule
