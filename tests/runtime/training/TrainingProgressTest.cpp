// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/TrainingProgress.h"

#include <cmath>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

TEST(TrainingProgress, SpeedAndTimeLeft) {
  TrainingProgress progress(100, 10, 5.0);
  EXPECT_EQ(progress.line(), "step 10 of 100");
  EXPECT_EQ(progress.tokensPerSecond(), 0);
  EXPECT_EQ(progress.secondsLeft(), -1);
  progress.addStep(4.0, 3e-4, 1000, 7.0);
  EXPECT_DOUBLE_EQ(progress.tokensPerSecond(), 500);
  EXPECT_DOUBLE_EQ(progress.secondsLeft(), 2.0 * 89);
  EXPECT_EQ(progress.line(), "step 11 of 100, loss 4.0000, learning rate "
                             "3.00e-04, 500 tokens/s, 2:58 left");
}

TEST(TrainingProgress, SpeedIsOfTheLastSteps) {
  TrainingProgress progress(1000, 0, 0);
  double seconds = 0;
  for (int step = 0; step < 10; ++step)
    progress.addStep(1, 1, 100, seconds += 50);
  for (int step = 0; step < 32; ++step)
    progress.addStep(1, 1, 100, seconds += 0.5);
  EXPECT_DOUBLE_EQ(progress.tokensPerSecond(), 200);
  EXPECT_DOUBLE_EQ(progress.secondsLeft(), (1000 - 42) * 0.5);
}

TEST(TrainingProgress, SmoothsTheLoss) {
  TrainingProgress progress(10, 0, 0);
  EXPECT_TRUE(std::isnan(progress.smoothedLoss()));
  progress.addStep(3, 1, 1, 1);
  EXPECT_DOUBLE_EQ(progress.smoothedLoss(), 3);
  progress.addStep(NAN, 1, 1, 2);
  EXPECT_DOUBLE_EQ(progress.smoothedLoss(), 3);
  progress.addStep(1, 1, 1, 3);
  // (0.9 * 3 + 1) / (0.9 + 1)
  EXPECT_NEAR(progress.smoothedLoss(), 3.7 / 1.9, 1e-12);
}

TEST(TrainingProgress, DrawsABar) {
  TrainingProgress progress(4, 2, 0);
  progress.addStep(1, 1e-5, 8, 4000);
  EXPECT_THAT(progress.bar(),
              StartsWith("\r[##################......] step 3 of 4, "));
  EXPECT_THAT(progress.bar(), EndsWith(", 1:06:40 left\x1b[K"));
  progress.addStep(1, 1e-5, 8, 8000);
  EXPECT_THAT(progress.line(), EndsWith(" tokens/s"));
  progress.addStep(1, 1e-5, 8, 8001); // more than planned
  EXPECT_THAT(progress.bar(), StartsWith("\r[########################] "));
  EXPECT_THAT(TrainingProgress(0, 0, 0).bar(), StartsWith("\r[####"));
}

} // namespace
} // namespace llmrt
