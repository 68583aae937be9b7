// SPDX-License-Identifier: Apache-2.0
// A small trained model, stories260K, against what its own code computed: 200
// greedy tokens and the first logits.
#include "tests/e2e/Stories.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace llmrt {
namespace {

TEST(Stories260K, GreedyTokensAndFirstLogits) {
  const std::string folder = storiesFolder();
  if (folder.empty())
    GTEST_SKIP() << "no stories260K in LLMC_TEST_DATA";
  std::string plan = temporaryPath("stories.fb");
  ASSERT_TRUE(
      compilePlan(folder + "/" + kStoriesModel, plan, storiesOptions()).ok());
  expectGoldenStory([&](RunRequest request) {
    request.plan = plan;
    return runPlan(request);
  });
  std::filesystem::remove(plan);
}

} // namespace
} // namespace llmrt
