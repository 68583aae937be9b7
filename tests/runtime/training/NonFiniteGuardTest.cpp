// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/NonFiniteGuard.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NonFiniteGuard, StopsAfterThreeInARow) {
  NonFiniteGuard guard(3, 5);
  EXPECT_TRUE(guard.addSkippedStep(1, "a").ok());
  EXPECT_TRUE(guard.addSkippedStep(2, "b").ok());
  guard.addGoodStep();
  EXPECT_EQ(guard.numInRow(), 0);
  EXPECT_TRUE(guard.addSkippedStep(4, "layers.3.q").ok());
  EXPECT_TRUE(guard.addSkippedStep(5, "d").ok());
  absl::Status status = guard.addSkippedStep(6, "e");
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("LLMC-E1309: the gradient of layers.3.q was not "
                              "finite at step 4"),
                    HasSubstr("3 steps in a row"),
                    HasSubstr("10 steps were skipped")));
  EXPECT_EQ(guard.numSkipped(), 10);
}

TEST(NonFiniteGuard, NamesTheLossIfNoGradientIsBad) {
  NonFiniteGuard guard(1);
  EXPECT_THAT(std::string(guard.addSkippedStep(7, "").message()),
              HasSubstr("the loss was not finite at step 7"));
}

TEST(NonFiniteGuard, MayNeverStop) {
  NonFiniteGuard guard(0);
  for (int64_t step = 0; step < 1000; ++step)
    EXPECT_TRUE(guard.addSkippedStep(step, "a").ok());
}

} // namespace
} // namespace llmrt
