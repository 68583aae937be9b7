// SPDX-License-Identifier: Apache-2.0
// Ranks that share a real GPU: the conformance suite and the failure cases.
#include "runtime/comm/cuda/SharedGpuFabric.h"
#include "tests/runtime/comm/CommunicatorSuite.h"
#include "tests/runtime/comm/FailureCases.h"
#include "tests/runtime/comm/cuda/GpuFabric.h"

#include <mutex>
#include <thread>

namespace llmrt::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

class SharedGpuRunner final : public RankRunner {
public:
  explicit SharedGpuRunner(int numRanks) : numRanks_(numRanks) {}

  int size() const override { return numRanks_; }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    auto cuda = loadCudaTable(0);
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    auto fabrics = createSharedGpuFabrics(numRanks_, *cuda, options);
    std::vector<std::thread> threads;
    for (auto& fabric : fabrics)
      threads.emplace_back([&] { runOnGpuStream(*fabric, body); });
    for (std::thread& thread : threads)
      thread.join();
  }

private:
  int numRanks_;
};

std::shared_ptr<RankRunner> runner(int numRanks) {
  return std::make_shared<SharedGpuRunner>(numRanks);
}

INSTANTIATE_TEST_SUITE_P(SharedGpuOnGpu, CommunicatorSuite,
                         ::testing::Values(runner(1), runner(2), runner(3),
                                           runner(4), runner(8)),
                         [](const auto& info) {
                           return "Ranks" + std::to_string(info.param->size());
                         });

class SharedGpuFailureOnGpu : public ::testing::TestWithParam<FailureCase> {};

TEST_P(SharedGpuFailureOnGpu, EndsEveryRank) {
  FabricOptions options;
  options.timeoutSeconds = kCaseTimeoutSeconds;
  std::mutex mutex;
  std::vector<std::string> messages;
  runner(GetParam().numRanks)->run(options, [&](Fabric& fabric) {
    absl::Status status = playFailureCase(fabric, GetParam().name);
    std::lock_guard<std::mutex> lock(mutex);
    messages.push_back(std::string(status.message()));
    EXPECT_FALSE(fabric.abortStatus().ok());
  });
  EXPECT_EQ(messages.size(), GetParam().numRanks);
  EXPECT_THAT(messages, Each(HasSubstr(GetParam().expected)));
}

INSTANTIATE_TEST_SUITE_P(Cases, SharedGpuFailureOnGpu,
                         ::testing::ValuesIn(failureCases()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

} // namespace
} // namespace llmrt::testing
