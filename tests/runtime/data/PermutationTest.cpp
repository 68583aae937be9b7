// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/Permutation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace llmrt {
namespace {

TEST(Permutation, HasEachElementOnce) {
  for (uint64_t count : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 1000, 4097})
    for (uint64_t epoch : {0, 1, 2}) {
      std::vector<bool> isSeen(count);
      for (uint64_t i = 0; i < count; ++i) {
        uint64_t at = permute(i, count, 7, epoch);
        ASSERT_LT(at, count);
        ASSERT_FALSE(isSeen[at]) << count << " " << epoch;
        isSeen[at] = true;
      }
    }
}

TEST(Permutation, ReachesTheEndsOfLargeCounts) {
  for (uint64_t count : {uint64_t{1} << 40, (uint64_t{1} << 62) + 3}) {
    std::set<uint64_t> seen;
    for (uint64_t i : {uint64_t{0}, uint64_t{1}, count / 2, count - 1}) {
      seen.insert(permute(i, count, 1, 0));
      EXPECT_LT(*seen.rbegin(), count);
    }
    EXPECT_EQ(seen.size(), 4u);
  }
}

// Over many seeds each element comes to each place about equally often: the
// largest deviation of 36 counts with mean 1000 and standard deviation 30 stays
// under five of them.
TEST(Permutation, IsUniformOverSeeds) {
  constexpr uint64_t kCount = 6, kSeeds = 6000;
  int seen[kCount][kCount] = {};
  for (uint64_t seed = 0; seed < kSeeds; ++seed)
    for (uint64_t i = 0; i < kCount; ++i)
      ++seen[i][permute(i, kCount, seed, 3)];
  for (auto& row : seen)
    for (int count : row)
      EXPECT_NEAR(count, 1000, 150);
}

// Neighbours do not stay together: of n elements about one keeps its successor.
TEST(Permutation, SeparatesNeighbours) {
  constexpr uint64_t kCount = 10'000;
  int numKept = 0, numFixed = 0, numSame = 0;
  for (uint64_t i = 0; i + 1 < kCount; ++i) {
    uint64_t at = permute(i, kCount, 5, 0);
    numKept += permute(i + 1, kCount, 5, 0) == at + 1;
    numFixed += at == i;
    numSame += at == permute(i, kCount, 5, 1);
  }
  EXPECT_LT(numKept, 10);
  EXPECT_LT(numFixed, 10);
  EXPECT_LT(numSame, 10);
}

} // namespace
} // namespace llmrt
