// SPDX-License-Identifier: Apache-2.0
// Runs the conformance suite over rank threads; and what only `local` has.
#include "tests/runtime/comm/CommunicatorSuite.h"

#include <chrono>

namespace llmrt::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(Local, CommunicatorSuite,
                         ::testing::Values(makeLocalRunner(1),
                                           makeLocalRunner(2),
                                           makeLocalRunner(3),
                                           makeLocalRunner(4),
                                           makeLocalRunner(8)),
                         [](const auto& info) {
                           return "Ranks" + std::to_string(info.param->size());
                         });

double secondsOf(const std::function<void()>& action) {
  auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

TEST(LocalFabric, SimulatedLinkTakesItsTime) {
  FabricOptions options;
  options.link.bytesPerSecond = 1e6;
  options.link.latencySeconds = 0.01;
  makeLocalRunner(2)->run(options, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    std::vector<uint8_t> data(40000); // 20 kB cross each link
    double seconds = secondsOf([&] {
      EXPECT_THAT((*comm)->allGather(data.data() + fabric.rank() * 20000,
                                     data.data(), 20000, testTag()),
                  IsOk());
    });
    EXPECT_GE(seconds, 0.03);
    EXPECT_LT(seconds, 10) << "far more than latency + bytes / bandwidth";
  });
}

} // namespace
} // namespace llmrt::testing
