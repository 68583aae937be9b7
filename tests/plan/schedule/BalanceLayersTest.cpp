// SPDX-License-Identifier: Apache-2.0
// Cuts of layers against all cuts, tried one by one.
#include "compiler/schedule/BalanceLayers.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

namespace llmc::schedule {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

int64_t maximumOf(const LayerCosts& costs, std::vector<int> starts) {
  int64_t most = 0;
  int numLayers = static_cast<int>(costs.layers.size());
  starts.push_back(numLayers);
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    int64_t sum = (starts[i] == 0 ? costs.embedding : 0) +
                  (starts[i + 1] == numLayers ? costs.head : 0);
    for (int layer = starts[i]; layer < starts[i + 1]; ++layer)
      sum += costs.layers[layer];
    most = std::max(most, sum);
  }
  return most;
}

/// Least maximum over all ways to add `chunks` more runs after the last start.
int64_t tryAll(const LayerCosts& costs, std::vector<int>& starts, int chunks) {
  if (chunks == 0)
    return maximumOf(costs, starts);
  int64_t best = INT64_MAX;
  int numLayers = static_cast<int>(costs.layers.size());
  for (int first = starts.back() + 1; first + chunks <= numLayers; ++first) {
    starts.push_back(first);
    best = std::min(best, tryAll(costs, starts, chunks - 1));
    starts.pop_back();
  }
  return best;
}

TEST(BalanceLayers, FindsTheLeastMaximum) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    LayerCosts costs;
    int numLayers = 1 + static_cast<int>(random() % 9);
    for (int i = 0; i < numLayers; ++i)
      costs.layers.push_back(random() % 20);
    costs.embedding = random() % 30;
    costs.head = random() % 30;
    int stages = 1 + static_cast<int>(random() % numLayers);
    auto starts = balanceLayers(costs, stages, 1);
    ASSERT_TRUE(starts.ok()) << starts.status();
    ASSERT_EQ(starts->size(), static_cast<size_t>(stages));
    EXPECT_EQ(starts->front(), 0);
    EXPECT_TRUE(std::is_sorted(starts->begin(), starts->end()));
    EXPECT_EQ(std::adjacent_find(starts->begin(), starts->end()),
              starts->end());
    std::vector<int> all = {0};
    EXPECT_EQ(maximumOf(costs, *starts), tryAll(costs, all, stages - 1));
  }
}

TEST(BalanceLayers, SharesEvenly) {
  LayerCosts costs{std::vector<int64_t>(10, 3)};
  EXPECT_THAT(*balanceLayers(costs, 2, 2), ElementsAre(0, 2, 4, 7));
  costs.head = 6; // worth two layers
  EXPECT_THAT(*balanceLayers(costs, 4, 1), ElementsAre(0, 3, 6, 9));
}

TEST(BalanceLayers, RefusesMoreChunksThanLayers) {
  EXPECT_THAT(
      std::string(balanceLayers({{1, 1, 1}}, 2, 2).status().message()),
      HasSubstr("2 stages with 2 virtual stages each for a model of 3 layers"));
  EXPECT_FALSE(balanceLayers({{1, -1, 1}}, 2, 1).ok());
}

} // namespace
} // namespace llmc::schedule
