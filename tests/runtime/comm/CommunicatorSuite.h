// SPDX-License-Identifier: Apache-2.0
// The conformance suite of communicators: what every back-end must do, compared
// bit for bit with a serial reference. A back-end instantiates it with a
// RankRunner. Failures (aborts, time-outs) are in FailureCases.h, because they
// end an MPI job.
#pragma once

#include "runtime/comm/Communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

namespace llmrt::testing {

/// Runs a body on every rank of a fabric.
class RankRunner {
public:
  virtual ~RankRunner() = default;
  virtual int size() const = 0;
  virtual void run(const FabricOptions& options,
                   const std::function<void(Fabric&)>& body) const = 0;
};

/// Runs the ranks as threads over the `local` back-end.
std::shared_ptr<RankRunner> makeLocalRunner(int numRanks);

class CommunicatorSuite
    : public ::testing::TestWithParam<std::shared_ptr<RankRunner>> {
protected:
  /// Runs `body` on every rank with a communicator of all ranks, and times out
  /// after a minute.
  void runAll(const std::function<void(Communicator&)>& body) const;
  void runFabric(const std::function<void(Fabric&)>& body) const;
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CommunicatorSuite);

/// The tag that tests use.
inline CollectiveTag testTag(const char* kind = "all_reduce") {
  return {17, kind, "layers.3.mlp.down", "lower-collectives"};
}

std::vector<int> allRanks(int size);

MATCHER(IsOk, "") {
  *result_listener << arg.ToString();
  return arg.ok();
}

} // namespace llmrt::testing
