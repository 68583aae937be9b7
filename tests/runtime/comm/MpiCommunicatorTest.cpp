// SPDX-License-Identifier: Apache-2.0
// Runs the conformance suite over MPI: this program is one rank, started by
// mpirun.
#include "tests/runtime/comm/CommunicatorSuite.h"

namespace llmrt::testing {
namespace {

class MpiRunner final : public RankRunner {
public:
  int size() const override {
    const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
    return size ? std::atoi(size) : 1;
  }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    auto fabric = createMpiFabric(options);
    ASSERT_TRUE(fabric.ok()) << fabric.status();
    body(**fabric);
  }
};

INSTANTIATE_TEST_SUITE_P(Mpi, CommunicatorSuite,
                         ::testing::Values(std::make_shared<MpiRunner>()));

} // namespace
} // namespace llmrt::testing
