// SPDX-License-Identifier: Apache-2.0
// The real NCCL and CUDA: the conformance suite with one rank, and a captured
// graph. Skips where there is no GPU, saying why.
#include "runtime/comm/nccl/NcclFabric.h"
#include "tests/runtime/comm/CommunicatorSuite.h"

#include <cuda_runtime_api.h>

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

class GpuRunner final : public RankRunner {
public:
  int size() const override { return 1; }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    auto fabric = joinNcclFabric(LaunchInfo(), nullptr, options);
    if (!fabric.ok() && !loadCudaTable(0).ok())
      GTEST_SKIP() << fabric.status().message();
    ASSERT_TRUE(fabric.ok()) << fabric.status();
    body(**fabric);
  }
};

INSTANTIATE_TEST_SUITE_P(NcclGpu, CommunicatorSuite,
                         ::testing::Values(std::make_shared<GpuRunner>()));

// A machine without a GPU is told what is missing; one with a GPU has a table.
TEST(CudaRuntimeTable, SaysWhatIsMissing) {
  auto table = loadCudaTable(0);
  int numDevices = 0;
  if (cudaGetDeviceCount(&numDevices) == cudaSuccess) {
    EXPECT_TRUE(table.ok()) << table.status();
    EXPECT_THAT(std::string(loadCudaTable(numDevices).status().message()),
                HasSubstr("is needed, this host has"));
    return;
  }
  EXPECT_THAT(std::string(table.status().message()),
              HasSubstr("LLMC-E0805: no GPU can be used: "));
}

TEST(NcclGpu, CapturedCallsAreReplayedWithTheirMarks) {
  GpuRunner().run({}, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0});
    ASSERT_TRUE(comm.ok()) << comm.status();
    cudaStream_t stream = nullptr;
    void* data = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
              cudaSuccess);
    ASSERT_EQ(cudaMalloc(&data, 4000), cudaSuccess);
    CollectiveTag tag = testTag();
    tag.stream = stream;
    // NCCL allocates at its first call, which a capture does not allow.
    ASSERT_THAT((*comm)->allReduce(data, 1000, DType::F32, tag), IsOk());
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed),
              cudaSuccess);
    EXPECT_THAT((*comm)->allReduce(data, 1000, DType::F32, tag), IsOk());
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t runnable = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&runnable, graph, 0), cudaSuccess);
    for (int i = 0; i < 3; ++i)
      ASSERT_EQ(cudaGraphLaunch(runnable, stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_THAT(fabric.streamProgress(),
                HasSubstr("call 4  after all_reduce of layers.3.mlp.down"));
    cudaGraphExecDestroy(runnable);
    cudaGraphDestroy(graph);
    cudaFree(data);
    cudaStreamDestroy(stream);
  });
}

} // namespace
} // namespace llmrt::testing
