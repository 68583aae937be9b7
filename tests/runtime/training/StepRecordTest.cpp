// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/StepRecord.h"

#include <cmath>
#include <gmock/gmock.h>
#include <thread>
#include <vector>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

std::vector<absl::StatusOr<StepOutcome>>
agree(const std::vector<StepRecord>& records) {
  int size = static_cast<int>(records.size());
  auto fabrics = createLocalFabrics(size, {.timeoutSeconds = 20});
  std::vector<absl::StatusOr<StepOutcome>> outcomes(size, StepOutcome{});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      std::vector<int> all;
      for (int r = 0; r < size; ++r)
        all.push_back(r);
      auto group = fabrics[rank]->createCommunicator(all);
      outcomes[rank] = agreeOnStep(records[rank], group->get());
    });
  for (std::thread& thread : threads)
    thread.join();
  return outcomes;
}

StepRecord withNorm(double norm, bool isFinite = true) {
  StepRecord record;
  record.step = 7;
  record.hasNorm = 1;
  record.norm = norm;
  record.isFinite = isFinite;
  return record;
}

TEST(StepRecord, EachNumberComesFromAStageThatHasIt) {
  StepRecord first = withNorm(2), last = withNorm(2);
  last.hasLoss = 1;
  last.loss = 1.5;
  last.hasCount = 1;
  last.count = 40;
  for (const auto& outcome : agree({first, last})) {
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->loss, 1.5);
    EXPECT_EQ(outcome->norm, 2);
    EXPECT_EQ(outcome->numCounted, 40);
    EXPECT_TRUE(outcome->isUpdated);
    EXPECT_FALSE(outcome->isStopWanted);
  }
}

TEST(StepRecord, OneWishStopsAll) {
  StepRecord other = withNorm(1);
  other.wantsStop = 1;
  for (const auto& outcome : agree({withNorm(1), withNorm(1), other}))
    EXPECT_TRUE(outcome->isStopWanted);
}

TEST(StepRecord, TheFirstBadTensorOfAllRanks) {
  StepRecord a = withNorm(NAN, false), b = withNorm(INFINITY, false);
  a.nonFiniteTensor = 9;
  b.nonFiniteTensor = 4;
  for (const auto& outcome : agree({a, withNorm(NAN, false), b})) {
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_FALSE(outcome->isUpdated);
    EXPECT_EQ(outcome->nonFiniteTensor, 4);
  }
}

TEST(StepRecord, RanksThatDisagreeEnd) {
  for (const auto& outcome : agree({withNorm(1), withNorm(2)}))
    EXPECT_THAT(outcome.status().message(), HasSubstr("LLMC-E0912"));
  StepRecord late = withNorm(1);
  late.step = 6;
  for (const auto& outcome : agree({withNorm(1), late}))
    EXPECT_THAT(outcome.status().message(), HasSubstr("LLMC-E0912"));
}

} // namespace
} // namespace llmrt
