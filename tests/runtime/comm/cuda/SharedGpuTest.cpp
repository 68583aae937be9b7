// SPDX-License-Identifier: Apache-2.0
// Ranks that share a GPU, over the fake device: the conformance suite and the
// failure cases, with calls on streams and on host memory.
#include "runtime/comm/cuda/SharedGpuFabric.h"
#include "tests/runtime/comm/CommunicatorSuite.h"
#include "tests/runtime/comm/FailureCases.h"
#include "tests/runtime/comm/cuda/FakeCuda.h"
#include "tests/runtime/comm/cuda/StreamedFabric.h"

#include <future>
#include <mutex>
#include <thread>

namespace llmrt::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

enum class CallsOn { Host, Stream };

class SharedGpuRunner final : public RankRunner {
public:
  SharedGpuRunner(int numRanks, CallsOn callsOn)
      : numRanks_(numRanks), callsOn_(callsOn) {}

  int size() const override { return numRanks_; }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    auto fabrics = createSharedGpuFabrics(numRanks_, fakeCudaTable(), options);
    std::vector<std::thread> threads;
    for (auto& fabric : fabrics)
      threads.emplace_back([&] {
        if (callsOn_ == CallsOn::Host)
          body(*fabric);
        else
          runOnStream(*fabric, body);
      });
    for (std::thread& thread : threads)
      thread.join();
    fabrics.clear();
    EXPECT_EQ(numFakeCudaObjects(), 0) << "not given back";
  }

private:
  int numRanks_;
  CallsOn callsOn_;
};

std::shared_ptr<RankRunner> runner(int numRanks,
                                   CallsOn callsOn = CallsOn::Stream) {
  return std::make_shared<SharedGpuRunner>(numRanks, callsOn);
}

INSTANTIATE_TEST_SUITE_P(SharedGpu, CommunicatorSuite,
                         ::testing::Values(runner(1), runner(2), runner(3),
                                           runner(4), runner(8)),
                         [](const auto& info) {
                           return "Ranks" + std::to_string(info.param->size());
                         });

// Without a stream it is `local`.
INSTANTIATE_TEST_SUITE_P(SharedGpuHost, CommunicatorSuite,
                         ::testing::Values(runner(3, CallsOn::Host)));

class SharedGpuFailure : public ::testing::TestWithParam<FailureCase> {};

TEST_P(SharedGpuFailure, EndsEveryRank) {
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

INSTANTIATE_TEST_SUITE_P(Cases, SharedGpuFailure,
                         ::testing::ValuesIn(failureCases()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST(SharedGpu, CallsThatDoNotFitAreNamed) {
  runner(2)->run({}, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    float value = 0;
    absl::Status status =
        fabric.rank() == 0
            ? (*comm)->allReduce(&value, 1, DType::F32, testTag())
            : (*comm)->barrier(testTag("barrier"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("disagree"));
  });
}

// Nothing waits for the device: all calls are enqueued while the streams stand
// still, and run afterwards, in an order that gives the right values.
TEST(SharedGpu, CallsOnlyEnqueue) {
  constexpr int kNumCalls = 40;
  std::promise<void> goOn;
  std::shared_future<void> gate = goOn.get_future();
  std::atomic<int> numEnqueued{0};
  runner(3, CallsOn::Host)->run({}, [&](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1, 2});
    ASSERT_TRUE(comm.ok());
    FakeCudaStream streams[2];
    std::vector<float> data(200, 1.0f);
    std::vector<float> gathered(600);
    for (FakeCudaStream& stream : streams)
      stream.enqueue([gate] { gate.wait(); });
    void* event = nullptr;
    CudaTable cuda = fakeCudaTable();
    cuda.eventCreate(0, &event);
    for (int i = 0; i < kNumCalls; ++i) {
      CollectiveTag tag = testTag();
      tag.stream = &streams[i % 2];
      ASSERT_THAT((*comm)->allReduce(data.data(), 200, DType::F32, tag),
                  IsOk());
      // Scaled back, so that the values stay exact.
      streams[i % 2].enqueue([&] {
        for (float& value : data)
          value = value / 3 + 1;
      });
      ASSERT_THAT((*comm)->allGather(data.data(), gathered.data(), 800, tag),
                  IsOk());
      // The next call is on the other stream.
      cuda.eventRecord(0, event, &streams[i % 2]);
      cuda.streamWaitEvent(0, &streams[(i + 1) % 2], event);
    }
    EXPECT_EQ(data[0], 1.0f) << "nothing has run";
    if (++numEnqueued == 3)
      goOn.set_value();
    for (FakeCudaStream& stream : streams)
      while (!stream.isIdle())
        std::this_thread::yield();
    EXPECT_EQ(data[199], 1.0f + kNumCalls);
    EXPECT_EQ(gathered[599], 1.0f + kNumCalls);
    cuda.eventDestroy(0, event);
  });
}

TEST(SharedGpu, CapturesAreRefused) {
  runner(1, CallsOn::Host)->run({}, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0});
    ASSERT_TRUE(comm.ok());
    FakeCudaStream stream;
    stream.beginCapture();
    CollectiveTag tag = testTag("barrier");
    tag.stream = &stream;
    EXPECT_THAT(std::string((*comm)->barrier(tag).message()),
                HasSubstr("LLMC-E0805: ranks that share a GPU cannot capture"));
    stream.endCapture();
  });
}

TEST(SharedGpu, TooManyRanksOfOneGroup) {
  auto fabrics = createSharedGpuFabrics(65, fakeCudaTable(), {});
  EXPECT_THAT(
      std::string(
          fabrics[0]->createCommunicator(allRanks(65)).status().message()),
      HasSubstr("LLMC-E0707: 65 ranks of a group"));
}

} // namespace
} // namespace llmrt::testing
