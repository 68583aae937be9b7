// SPDX-License-Identifier: Apache-2.0
// The real NCCL on a real GPU: the conformance suite with one rank, and a
// captured graph. Skips where NCCL is not installed.
#include "runtime/comm/nccl/NcclFabric.h"
#include "tests/runtime/comm/CommunicatorSuite.h"
#include "tests/runtime/comm/cuda/GpuFabric.h"

#include <cuda_runtime_api.h>

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

enum class CallsOn { Host, Stream };

class GpuRunner final : public RankRunner {
public:
  explicit GpuRunner(CallsOn callsOn) : callsOn_(callsOn) {}

  int size() const override { return 1; }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    if (auto nccl = NcclTable::load(); !nccl.ok())
      GTEST_SKIP() << nccl.status().message();
    auto fabric = joinNcclFabric(LaunchInfo(), nullptr, options);
    ASSERT_TRUE(fabric.ok()) << fabric.status();
    if (callsOn_ == CallsOn::Host)
      body(**fabric);
    else
      runOnGpuStream(**fabric, body);
  }

private:
  CallsOn callsOn_;
};

INSTANTIATE_TEST_SUITE_P(
    NcclGpu, CommunicatorSuite,
    ::testing::Values(std::make_shared<GpuRunner>(CallsOn::Host),
                      std::make_shared<GpuRunner>(CallsOn::Stream)));

TEST(NcclGpu, CapturedCallsAreReplayedWithTheirMarks) {
  GpuRunner(CallsOn::Host).run({}, [](Fabric& fabric) {
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
