// SPDX-License-Identifier: Apache-2.0
// The marks of calls on streams: what they say while a call hangs, and that a
// captured graph keeps them.
#include "runtime/comm/nccl/ProgressMarks.h"

#include "runtime/comm/nccl/NcclFabric.h"
#include "tests/runtime/comm/nccl/NcclRunner.h"

#include <chrono>
#include <cmath>
#include <future>

namespace llmrt::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

CallSite siteOf(int64_t command, const char* kind, FakeCudaStream& stream) {
  CallSite site;
  site.tag = {command, kind, "layers.3.mlp.down", "lower-collectives", &stream};
  site.operation = kind;
  site.isExchange = std::string(kind) == "exchange";
  return site;
}

void waitForIdle(FakeCudaStream& stream) {
  while (!stream.isIdle())
    std::this_thread::yield();
}

TEST(ProgressMarks, SayWhereTheDeviceIs) {
  CudaTable cuda = fakeCudaTable();
  auto marks = ProgressMarks::create(cuda);
  ASSERT_TRUE(marks.ok());
  FakeCudaStream stream;
  EXPECT_FALSE((*marks)->read().isInside);
  EXPECT_EQ((*marks)->read().numCollectives, 0);

  CallSite gather = siteOf(4, "all_gather", stream);
  CallSite exchange = siteOf(9, "exchange", stream);
  uint32_t gatherNumber = (*marks)->numberOf(gather);
  uint32_t exchangeNumber = (*marks)->numberOf(exchange);
  EXPECT_NE(gatherNumber, exchangeNumber);
  EXPECT_EQ((*marks)->numberOf(gather), gatherNumber) << "calls repeat";

  std::promise<void> goOn;
  std::shared_future<void> gate = goOn.get_future();
  EXPECT_THAT((*marks)->begin(&stream, gatherNumber, false), IsOk());
  EXPECT_THAT((*marks)->end(&stream, gatherNumber, false), IsOk());
  EXPECT_THAT((*marks)->begin(&stream, exchangeNumber, true), IsOk());
  stream.enqueue([gate] { gate.wait(); });
  EXPECT_THAT((*marks)->end(&stream, exchangeNumber, true), IsOk());
  while (!(*marks)->read().isInside || (*marks)->read().numExchanges == 0)
    std::this_thread::yield();
  ProgressMarks::Position position = (*marks)->read();
  EXPECT_EQ(position.site.tag.command, 9);
  EXPECT_TRUE(position.site.isExchange);
  EXPECT_EQ(position.numCollectives, 1);
  goOn.set_value();
  waitForIdle(stream);
  EXPECT_FALSE((*marks)->read().isInside);
}

TEST(ProgressMarks, CountReplaysOfAGraph) {
  CudaTable cuda = fakeCudaTable();
  auto marks = ProgressMarks::create(cuda);
  ASSERT_TRUE(marks.ok());
  FakeCudaStream stream;
  uint32_t number = (*marks)->numberOf(siteOf(4, "all_gather", stream));
  stream.beginCapture();
  EXPECT_THAT((*marks)->begin(&stream, number, false), IsOk());
  EXPECT_THAT((*marks)->end(&stream, number, false), IsOk());
  auto graph = stream.endCapture();
  EXPECT_EQ((*marks)->read().numCollectives, 0) << "nothing has run";
  for (int i = 0; i < 3; ++i)
    stream.replay(graph);
  waitForIdle(stream);
  ProgressMarks::Position position = (*marks)->read();
  EXPECT_EQ(position.numCollectives, 3) << "the same number, three calls";
  EXPECT_FALSE(position.isInside);
  EXPECT_EQ(position.site.tag.command, 4);
}

/// Rank 1 leaves out the third replay of a graph with two collectives: the
/// others name it, the command, the parameter and the pass.
TEST(CapturedGraph, AHangNamesItsCommand) {
  fakeControl().reset();
  FabricOptions options;
  options.timeoutSeconds = 0.4;
  makeNcclRunner(2, CallsOn::Host)->run(options, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    FakeCudaStream stream;
    std::vector<float> data(100, 1.0f);
    CollectiveTag first = {17, "all_reduce", "layers.3.attention",
                           "lower-collectives", &stream};
    CollectiveTag second = {21, "all_reduce", "layers.3.mlp",
                            "lower-collectives", &stream};
    stream.beginCapture();
    EXPECT_THAT((*comm)->allReduce(data.data(), 100, DType::F32, first),
                IsOk());
    EXPECT_THAT((*comm)->allReduce(data.data(), 100, DType::F32, second),
                IsOk());
    auto graph = stream.endCapture();
    EXPECT_EQ(data[0], 1.0f);
    stream.replay(graph);
    stream.replay(graph);
    waitForIdle(stream);
    EXPECT_EQ(data[0], 16.0f);
    EXPECT_THAT(fabric.streamProgress(),
                HasSubstr("call 4  after all_reduce of layers.3.mlp "
                          "(command 21, put there by lower-collectives)"));
    // The second all-reduce is the one that hangs: rank 1 does only the first.
    stream.replay(
        fabric.rank() == 0
            ? graph
            : std::vector(graph.begin(), graph.begin() + graph.size() / 2));
    if (fabric.rank() == 0) {
      while (fabric.streamProgress().find("call 6  inside") ==
             std::string::npos)
        std::this_thread::yield();
      EXPECT_THAT(fabric.streamProgress(),
                  AllOf(HasSubstr("rank 0  group 0,1#0"),
                        HasSubstr("inside all_reduce of layers.3.mlp")));
    }
    while (fabric.abortStatus().ok())
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    waitForIdle(stream);
    EXPECT_THAT(std::string(fabric.abortStatus().message()),
                HasSubstr("LLMC-E0701: rank 1 did not come within 0.4 s to "
                          "all_reduce of layers.3.mlp (command 21, put there "
                          "by lower-collectives), where rank 0 waited"));
  });
}

/// Calls of one rank on two streams run in the order in which they were made:
/// with one exchange behind the other on each of two ranks, any other order
/// could hang.
TEST(TwoStreams, CallsKeepTheirOrder) {
  fakeControl().reset();
  FabricOptions options;
  options.timeoutSeconds = 20;
  makeNcclRunner(2, CallsOn::Host)->run(options, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    FakeCudaStream streams[2];
    std::vector<float> data(1, 1.0f);
    for (int i = 0; i < 50; ++i) {
      CollectiveTag tag = testTag();
      tag.stream = &streams[i % 2];
      // The same memory: out of order the sum would be another.
      EXPECT_THAT((*comm)->allReduce(data.data(), 1, DType::F32, tag), IsOk());
      if (i % 2 == 1)
        streams[1].enqueue([&] { data[0] -= data[0] / 2; });
    }
    waitForIdle(streams[0]);
    waitForIdle(streams[1]);
    EXPECT_EQ(data[0], std::ldexp(1.0f, 25));
  });
}

} // namespace
} // namespace llmrt::testing
