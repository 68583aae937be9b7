// SPDX-License-Identifier: Apache-2.0
// The schedules against the pictures and numbers of the papers: order of the
// segments, micro-batches in flight, and what is refused.
#include "compiler/schedule/Schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmc::schedule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Schedule make(ScheduleKind kind, int stages, int microBatches,
              int virtualStages = 1) {
  auto schedule = makeSchedule({kind, stages, microBatches, virtualStages});
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return schedule.ok() ? *schedule : Schedule();
}

/// Writes the compute actions of a stage: "F0 F1 B0 W0", with ".c" for chunk c
/// > 0.
std::string computeText(const Schedule& schedule, int stage) {
  std::string text;
  for (const Action& action : schedule.actions[stage]) {
    if (isTransfer(action.kind))
      continue;
    text += text.empty() ? "" : " ";
    text += action.kind == ActionKind::Forward          ? "F"
            : action.kind == ActionKind::BackwardWeight ? "W"
                                                        : "B";
    text += std::to_string(action.microBatch);
    if (action.chunk > 0)
      text += "." + std::to_string(action.chunk);
  }
  return text;
}

// Narayanan et al. 2021, figure 4 top, with 4 stages and 8 micro-batches.
TEST(MakeSchedule, OneForwardOneBackwardIsThePapersOrder) {
  Schedule schedule = make(ScheduleKind::OneForwardOneBackward, 4, 8);
  EXPECT_EQ(computeText(schedule, 0),
            "F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7");
  EXPECT_EQ(computeText(schedule, 3),
            "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7");
}

// Narayanan et al. 2021, figure 4 bottom, device 1 and device 4.
TEST(MakeSchedule, InterleavedIsThePapersOrder) {
  Schedule schedule = make(ScheduleKind::Interleaved, 4, 8, 2);
  EXPECT_EQ(computeText(schedule, 0),
            "F0 F1 F2 F3 F0.1 F1.1 F2.1 F3.1 F4 F5 F6 B0.1 F7 B1.1 F4.1 B2.1 "
            "F5.1 B3.1 "
            "F6.1 B0 F7.1 B1 B2 B3 B4.1 B5.1 B6.1 B7.1 B4 B5 B6 B7");
  EXPECT_EQ(computeText(schedule, 3),
            "F0 F1 F2 F3 F0.1 B0.1 F1.1 B1.1 F2.1 B2.1 F3.1 B3.1 F4 B0 F5 B1 "
            "F6 B2 F7 "
            "B3 F4.1 B4.1 F5.1 B5.1 F6.1 B6.1 F7.1 B7.1 B4 B5 B6 B7");
}

// Qi et al. 2023, section 2.2 (ZB-H1): stage p has p input gradients more than
// weight gradients.
TEST(MakeSchedule, ZeroBubbleIsThePapersOrder) {
  Schedule schedule = make(ScheduleKind::ZeroBubble, 4, 6);
  EXPECT_EQ(computeText(schedule, 0),
            "F0 F1 F2 F3 B0 W0 F4 B1 W1 F5 B2 W2 B3 W3 B4 W4 B5 W5");
  EXPECT_EQ(computeText(schedule, 3),
            "F0 B0 F1 B1 F2 B2 F3 B3 W0 F4 B4 W1 F5 B5 W2 W3 W4 W5");
}

TEST(MakeSchedule, GPipeRunsAllForwardsFirst) {
  Schedule schedule = make(ScheduleKind::GPipe, 2, 3);
  EXPECT_EQ(computeText(schedule, 0), "F0 F1 F2 B0 B1 B2");
  EXPECT_EQ(computeText(schedule, 1), "F0 F1 F2 B0 B1 B2");
}

TEST(MakeSchedule, OneStageHasNoTransfers) {
  for (ScheduleKind kind :
       {ScheduleKind::GPipe, ScheduleKind::OneForwardOneBackward,
        ScheduleKind::Interleaved, ScheduleKind::ZeroBubble}) {
    Schedule schedule = make(kind, 1, 3);
    for (const Action& action : schedule.actions[0])
      EXPECT_FALSE(isTransfer(action.kind)) << describe(action);
    EXPECT_EQ(schedule.slots[0].receivedActivation, 0);
    EXPECT_EQ(schedule.slots[0].sentGradient, 0);
  }
}

TEST(MakeSchedule, SavedSlotsAreTheMicroBatchesInFlight) {
  for (int stages : {1, 2, 3, 4, 7})
    for (int microBatches : {1, 2, 3, 5, 8, 21})
      for (int stage = 0; stage < stages; ++stage) {
        SCOPED_TRACE(testing::Message() << stages << " stages, " << microBatches
                                        << " micro-batches, stage " << stage);
        auto saved = [&](ScheduleKind kind) {
          return make(kind, stages, microBatches).slots[stage].saved[0];
        };
        EXPECT_EQ(saved(ScheduleKind::GPipe), microBatches);
        EXPECT_EQ(saved(ScheduleKind::OneForwardOneBackward),
                  std::min(stages - stage, microBatches));
        EXPECT_EQ(saved(ScheduleKind::ZeroBubble),
                  std::min(stages, microBatches));
        Schedule zeroBubble =
            make(ScheduleKind::ZeroBubble, stages, microBatches);
        EXPECT_EQ(zeroBubble.slots[stage].deferred[0],
                  std::min(stage + 1, microBatches));
      }
}

TEST(MakeSchedule, InterleavedHoldsThePapersNumberOfChunks) {
  for (int stages : {2, 3, 4, 8})
    for (int groups : {1, 2, 3})
      for (int virtualStages : {2, 3, 4})
        for (int stage = 0; stage < stages; ++stage)
          EXPECT_EQ(make(ScheduleKind::Interleaved, stages, groups * stages,
                         virtualStages)
                        .slots[stage]
                        .inFlight,
                    std::min(2 * (stages - stage - 1) +
                                 (virtualStages - 1) * stages + 1,
                             groups * stages * virtualStages));
}

// What docs/design/schedules.md promises.
TEST(MakeSchedule, TransfersNeedFewSlots) {
  for (ScheduleKind kind :
       {ScheduleKind::GPipe, ScheduleKind::OneForwardOneBackward,
        ScheduleKind::ZeroBubble})
    for (int stages : {2, 3, 4, 8})
      for (int microBatches : {1, 3, 8, 21})
        for (int extra : {0, 1}) {
          auto schedule = makeSchedule({kind, stages, microBatches, 1, extra});
          ASSERT_TRUE(schedule.ok());
          int ahead = kind == ScheduleKind::OneForwardOneBackward;
          for (int stage = 0; stage < stages; ++stage) {
            const StageSlots& slots = schedule->slots[stage];
            int few = std::min(1 + extra, microBatches);
            bool isFirst = stage == 0, isLast = stage == stages - 1;
            EXPECT_EQ(slots.sentActivation, isLast ? 0 : few);
            EXPECT_EQ(slots.sentGradient, isFirst ? 0 : few);
            EXPECT_EQ(slots.receivedGradient, isLast ? 0 : few);
            EXPECT_LE(slots.receivedActivation,
                      isFirst ? 0
                              : std::min(slots.inFlight + ahead + extra,
                                         microBatches));
          }
        }
}

TEST(MakeSchedule, RefusesExpectedTimesWithoutAnOrder) {
  for (SegmentTimes times : {SegmentTimes{0, 1, 1}, SegmentTimes{1, -1, 1},
                             SegmentTimes{1, 1, 1e7}}) {
    ScheduleOptions options{ScheduleKind::ZeroBubble, 2, 2};
    options.expected.segments = {times};
    EXPECT_FALSE(makeSchedule(options).ok());
  }
  ScheduleOptions options{ScheduleKind::ZeroBubble, 3, 2};
  options.expected.segments.resize(2);
  EXPECT_FALSE(makeSchedule(options).ok());
}

TEST(MakeSchedule, NumbersSlots) {
  Schedule schedule = make(ScheduleKind::OneForwardOneBackward, 2, 3);
  std::vector<int> saved;
  for (const Action& action : schedule.actions[0])
    if (action.kind == ActionKind::Forward)
      saved.push_back(action.savedSlot);
  EXPECT_THAT(saved, ElementsAre(0, 1, 0));
}

TEST(MakeSchedule, RefusesByName) {
  auto message = [](ScheduleOptions options) {
    return std::string(makeSchedule(options).status().message());
  };
  EXPECT_THAT(message({ScheduleKind::Interleaved, 4, 6, 2}),
              HasSubstr("6 micro-batches on 4 stages: not a multiple; "
                        "use --microbatches=8"));
  EXPECT_THAT(message({ScheduleKind::ZeroBubble, 4, 8, 2}),
              HasSubstr("schedule zero-bubble with 2 virtual stages"));
  EXPECT_THAT(message({ScheduleKind::Interleaved, 1, 8, 2}),
              HasSubstr("on one stage"));
  EXPECT_THAT(message({ScheduleKind::GPipe, 0, 8, 1}),
              HasSubstr("with 0 stages"));
  EXPECT_THAT(message({ScheduleKind::GPipe, 2, 0, 1}),
              HasSubstr("0 micro-batches"));
}

TEST(ScheduleKind, NamesRoundTrip) {
  for (std::string_view name :
       {"gpipe", "1f1b", "interleaved", "zero-bubble"}) {
    auto kind = parseScheduleKind(name);
    ASSERT_TRUE(kind.ok());
    EXPECT_EQ(scheduleKindName(*kind), name);
  }
  EXPECT_THAT(std::string(parseScheduleKind("2f2b").status().message()),
              HasSubstr("unknown schedule '2f2b'"));
}

} // namespace
} // namespace llmc::schedule
