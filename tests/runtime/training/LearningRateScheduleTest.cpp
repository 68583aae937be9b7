// SPDX-License-Identifier: Apache-2.0
// The numbers are those of transformers 5.23 with PyTorch 2.15: get_last_lr()
// before each of the steps, at a peak of 1.
#include "runtime/training/LearningRateSchedule.h"

#include <gmock/gmock.h>
#include <vector>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Some roundings in double.
constexpr double kTolerance = 1e-15;

void expectRates(const LearningRateOptions& options,
                 const std::vector<double>& expected) {
  auto schedule = LearningRateSchedule::create(options);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  for (size_t step = 0; step < expected.size(); ++step)
    EXPECT_NEAR(schedule->at(static_cast<int64_t>(step)), expected[step],
                kTolerance)
        << "step " << step;
}

TEST(LearningRateSchedule, ConstantAsTransformers) {
  // get_constant_schedule_with_warmup(4)
  expectRates({.shape = ScheduleShape::Constant, .peak = 1, .warmupSteps = 4},
              {0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0});
}

TEST(LearningRateSchedule, LinearAsTransformers) {
  // get_linear_schedule_with_warmup(4, 12)
  expectRates({.shape = ScheduleShape::Linear,
               .peak = 1,
               .warmupSteps = 4,
               .totalSteps = 12},
              {0.0, 0.25, 0.5, 0.75, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25,
               0.125, 0.0, 0.0});
}

TEST(LearningRateSchedule, CosineAsTransformers) {
  // get_cosine_schedule_with_warmup(4, 12); at its end it does not rise again.
  expectRates({.shape = ScheduleShape::Cosine,
               .peak = 1,
               .warmupSteps = 4,
               .totalSteps = 12},
              {0.0, 0.25, 0.5, 0.75, 1.0, 0.9619397662556434,
               0.8535533905932737, 0.6913417161825449, 0.5, 0.30865828381745514,
               0.14644660940672627, 0.03806023374435663, 0.0, 0.0});
  // get_cosine_schedule_with_warmup(0, 5)
  expectRates({.shape = ScheduleShape::Cosine, .peak = 1, .totalSteps = 5},
              {1.0, 0.9045084971874737, 0.6545084971874737, 0.34549150281252633,
               0.09549150281252633, 0.0});
  // get_cosine_with_min_lr_schedule_with_warmup(4, 12, min_lr_rate=0.1)
  expectRates({.shape = ScheduleShape::Cosine,
               .peak = 1,
               .warmupSteps = 4,
               .totalSteps = 12,
               .minimumRatio = 0.1},
              {0.0, 0.25, 0.5, 0.75, 1.0, 0.9657457896300791,
               0.8681980515339464, 0.7222075445642904, 0.55, 0.3777924554357096,
               0.23180194846605365, 0.13425421036992097, 0.1, 0.1});
}

TEST(LearningRateSchedule, WarmupStableDecayAsTransformers) {
  // get_wsd_schedule(3, 4, 14, decay_type="linear")
  expectRates({.shape = ScheduleShape::WarmupStableDecay,
               .peak = 1,
               .warmupSteps = 3,
               .totalSteps = 14,
               .decayFraction = 0.3},
              {0.0, 1.0 / 3, 2.0 / 3, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
               0.75, 0.5, 0.25, 0.0, 0.0});
}

TEST(LearningRateSchedule, ScalesWithThePeak) {
  expectRates({.shape = ScheduleShape::Linear,
               .peak = 3e-4,
               .totalSteps = 2,
               .minimumRatio = 0.5},
              {3e-4, 2.25e-4, 1.5e-4, 1.5e-4});
}

TEST(LearningRateSchedule, RefusesWhatCannotBe) {
  auto messageOf = [](const LearningRateOptions& options) {
    return std::string(
        LearningRateSchedule::create(options).status().message());
  };
  EXPECT_THAT(messageOf({.peak = -1, .totalSteps = 1}),
              HasSubstr("LLMC-E0102: the learning rate is -1"));
  EXPECT_THAT(messageOf({.peak = 1.0 / 0.0, .totalSteps = 1}),
              HasSubstr("LLMC-E0102"));
  EXPECT_THAT(messageOf({.peak = 1, .totalSteps = 0}),
              HasSubstr("the run is 0 steps long"));
  EXPECT_THAT(messageOf({.peak = 1, .warmupSteps = -1, .totalSteps = 9}),
              HasSubstr("the warm-up is -1"));
  EXPECT_THAT(messageOf({.peak = 1, .warmupSteps = 10, .totalSteps = 9}),
              HasSubstr("a warm-up of 10 steps in a run of 9"));
  EXPECT_THAT(messageOf({.peak = 1, .totalSteps = 9, .minimumRatio = 1.5}),
              HasSubstr("1.5"));
  EXPECT_THAT(messageOf({.shape = ScheduleShape::WarmupStableDecay,
                         .peak = 1,
                         .warmupSteps = 6,
                         .totalSteps = 10,
                         .decayFraction = 0.5}),
              HasSubstr("a warm-up of 6 steps and a decay of 5"));
  EXPECT_THAT(messageOf({.shape = ScheduleShape::WarmupStableDecay,
                         .peak = 1,
                         .totalSteps = 10,
                         .decayFraction = 0.0 / 0.0}),
              HasSubstr("LLMC-E0102"));
}

TEST(LearningRateSchedule, ParsesNamesAndSuggests) {
  EXPECT_EQ(*parseScheduleShape("wsd", "--lr-schedule"),
            ScheduleShape::WarmupStableDecay);
  EXPECT_EQ(*parseScheduleShape("constant", "--lr-schedule"),
            ScheduleShape::Constant);
  EXPECT_THAT(
      std::string(
          parseScheduleShape("cosien", "--lr-schedule").status().message()),
      AllOf(HasSubstr("LLMC-E0102"), HasSubstr("--lr-schedule"),
            HasSubstr("cosien"), HasSubstr("did you mean cosine?")));
  EXPECT_THAT(
      std::string(
          parseScheduleShape("polynomial", "--lr-schedule").status().message()),
      HasSubstr("use one of constant, linear, cosine, wsd"));
}

} // namespace
} // namespace llmrt
