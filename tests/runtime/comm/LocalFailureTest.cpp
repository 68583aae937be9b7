// SPDX-License-Identifier: Apache-2.0
// Failures over rank threads: every rank returns, with the same words.
#include "tests/runtime/comm/CommunicatorSuite.h"
#include "tests/runtime/comm/FailureCases.h"

#include <chrono>
#include <mutex>

namespace llmrt::testing {
namespace {

class LocalFailure : public ::testing::TestWithParam<FailureCase> {};

TEST_P(LocalFailure, EndsEveryRank) {
  FabricOptions options;
  options.timeoutSeconds = kCaseTimeoutSeconds;
  std::mutex mutex;
  std::vector<std::string> messages;
  auto start = std::chrono::steady_clock::now();
  makeLocalRunner(GetParam().numRanks)->run(options, [&](Fabric& fabric) {
    absl::Status status = playFailureCase(fabric, GetParam().name);
    std::lock_guard<std::mutex> lock(mutex);
    messages.push_back(std::string(status.message()));
    EXPECT_FALSE(fabric.abortStatus().ok());
  });
  std::chrono::duration<double> elapsed =
      std::chrono::steady_clock::now() - start;
  EXPECT_LT(elapsed.count(), 30);
  EXPECT_THAT(messages,
              ::testing::Each(::testing::HasSubstr(GetParam().expected)));
}

INSTANTIATE_TEST_SUITE_P(Cases, LocalFailure,
                         ::testing::ValuesIn(failureCases()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST(LocalFailure, DifferentCollectivesAreNotMixedUp) {
  makeLocalRunner(2)->run({}, [&](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    float value = 0;
    absl::Status status =
        fabric.rank() == 0
            ? (*comm)->allReduce(&value, 1, DType::F32, testTag())
            : (*comm)->barrier(testTag("barrier"));
    EXPECT_THAT(std::string(status.message()),
                ::testing::HasSubstr("disagree"));
  });
}

TEST(LocalFailure, NoGroupsAfterAnAbort) {
  makeLocalRunner(1)->run({}, [&](Fabric& fabric) {
    fabric.abort(absl::InternalError("stop"));
    EXPECT_FALSE(fabric.createCommunicator({0}).ok());
  });
}

/// Ranks leave in the middle of large transfers and free their buffers at once;
/// the sanitizer builds see reads of freed memory.
TEST(LocalFailure, BuffersMayBeFreedAfterAnAbort) {
  for (int round = 0; round < 30; ++round) {
    makeLocalRunner(3)->run({}, [&](Fabric& fabric) {
      auto comm = fabric.createCommunicator(allRanks(3));
      ASSERT_TRUE(comm.ok());
      absl::Status status;
      for (int call = 0; status.ok() && call < 1000; ++call) {
        std::vector<float> data(100000 + 1000 * round);
        if (fabric.rank() == 0 && call == 3)
          fabric.abort(absl::InternalError("stop"));
        status =
            (*comm)->allReduce(data.data(), data.size(), DType::F32, testTag());
      }
      EXPECT_FALSE(status.ok());
    });
  }
}

} // namespace
} // namespace llmrt::testing
