// SPDX-License-Identifier: Apache-2.0
// Runs the conformance suite over `nccl` with the fake library: calls on host
// memory, and calls on streams.
#include "tests/runtime/comm/nccl/NcclRunner.h"

namespace llmrt::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(NcclHost, CommunicatorSuite,
                         ::testing::Values(makeNcclRunner(1, CallsOn::Host),
                                           makeNcclRunner(2, CallsOn::Host),
                                           makeNcclRunner(3, CallsOn::Host),
                                           makeNcclRunner(4, CallsOn::Host)),
                         [](const auto& info) {
                           return "Ranks" + std::to_string(info.param->size());
                         });

INSTANTIATE_TEST_SUITE_P(NcclStream, CommunicatorSuite,
                         ::testing::Values(makeNcclRunner(1, CallsOn::Stream),
                                           makeNcclRunner(2, CallsOn::Stream),
                                           makeNcclRunner(3, CallsOn::Stream),
                                           makeNcclRunner(4, CallsOn::Stream)),
                         [](const auto& info) {
                           return "Ranks" + std::to_string(info.param->size());
                         });

INSTANTIATE_TEST_SUITE_P(
    NcclStreamWithoutPeers, CommunicatorSuite,
    ::testing::Values(makeNcclRunner(2, CallsOn::StreamWithoutPeers),
                      makeNcclRunner(3, CallsOn::StreamWithoutPeers)),
    [](const auto& info) {
      return "Ranks" + std::to_string(info.param->size());
    });

} // namespace
} // namespace llmrt::testing
