// SPDX-License-Identifier: Apache-2.0
// Failures over `nccl`: the cases of every back-end, and what only NCCL does:
// groups that are never finished, errors that come on their own, and loads that
// fail.
#include "tests/runtime/comm/FailureCases.h"
#include "tests/runtime/comm/nccl/NcclRunner.h"

#include <chrono>
#include <mutex>

namespace llmrt::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

class NcclFailure
    : public ::testing::TestWithParam<std::tuple<FailureCase, CallsOn>> {
protected:
  void SetUp() override { fakeControl().reset(); }
};

/// Runs a body on every rank; returns what each said, and checks that none
/// waited for long.
std::vector<std::string>
messagesOf(int numRanks, CallsOn callsOn, double timeoutSeconds,
           const std::function<absl::Status(Fabric&)>& body) {
  FabricOptions options;
  options.timeoutSeconds = timeoutSeconds;
  std::mutex mutex;
  std::vector<std::string> messages;
  auto start = std::chrono::steady_clock::now();
  makeNcclRunner(numRanks, callsOn)->run(options, [&](Fabric& fabric) {
    absl::Status status = body(fabric);
    std::lock_guard<std::mutex> lock(mutex);
    messages.push_back(std::string(status.message()));
    EXPECT_FALSE(fabric.abortStatus().ok());
  });
  std::chrono::duration<double> elapsed =
      std::chrono::steady_clock::now() - start;
  EXPECT_LT(elapsed.count(), 30);
  EXPECT_EQ(messages.size(), numRanks);
  return messages;
}

TEST_P(NcclFailure, EndsEveryRank) {
  const auto& [failure, callsOn] = GetParam();
  EXPECT_THAT(messagesOf(failure.numRanks, callsOn, kCaseTimeoutSeconds,
                         [&](Fabric& fabric) {
                           return playFailureCase(fabric, failure.name);
                         }),
              Each(HasSubstr(failure.expected)));
  EXPECT_EQ(fakeControl().numAborted, failure.numRanks);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, NcclFailure,
    ::testing::Combine(::testing::ValuesIn(failureCases()),
                       ::testing::Values(CallsOn::Host, CallsOn::Stream)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) +
             (std::get<1>(info.param) == CallsOn::Host ? "_host" : "_stream");
    });

class NcclGroup : public ::testing::Test {
protected:
  void SetUp() override { fakeControl().reset(); }

  void TearDown() override { fakeControl().reset(); }
};

absl::Status createAll(Fabric& fabric) {
  return fabric.createCommunicator(allRanks(fabric.size())).status();
}

TEST_F(NcclGroup, ARankThatDoesNotCreateItIsNamed) {
  EXPECT_THAT(messagesOf(3, CallsOn::Host, 0.4,
                         [](Fabric& fabric) {
                           if (fabric.rank() != 1)
                             return createAll(fabric);
                           while (fabric.abortStatus().ok())
                             std::this_thread::sleep_for(
                                 std::chrono::milliseconds(5));
                           return createAll(fabric);
                         }),
              Each(HasSubstr("LLMC-E0701: rank 1 did not come within 2 s to "
                             "create_group of 0,1,2#0")));
}

TEST_F(NcclGroup, CreationThatNeverEndsHasALimit) {
  fakeControl().hangInitRank = 1;
  EXPECT_THAT(messagesOf(2, CallsOn::Host, 0.4, createAll),
              Each(HasSubstr("NCCL did not finish within 2 s in create_group "
                             "of 0,1#0")));
  EXPECT_EQ(fakeControl().numAborted, 2) << "communicators are not left over";
}

TEST_F(NcclGroup, CreationThatFailsOnOneRankFailsOnAll) {
  fakeControl().failInitRank = 1;
  std::vector<std::string> messages =
      messagesOf(3, CallsOn::Host, 30, createAll);
  EXPECT_THAT(messages,
              Each(HasSubstr("rank 1 stopped the run: LLMC-E0708: NCCL failed "
                             "on rank 1 in create_group of 0,1,2#0")));
  EXPECT_THAT(messages, Each(HasSubstr("fake detail")));
}

absl::Status reduceOften(Fabric& fabric) {
  auto comm = fabric.createCommunicator(allRanks(fabric.size()));
  if (!comm.ok())
    return comm.status();
  absl::Status status;
  std::vector<float> data(1000, 1.0f);
  for (int call = 0; call < 2000 && status.ok(); ++call) {
    if (call == 20)
      fakeControl().asyncErrorRank = 1;
    status = (*comm)->allReduce(data.data(), 1000, DType::F32, testTag());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return status;
}

// NCCL reports on one rank what no call returned; the others wait in their
// collective, with a limit of a minute.
TEST_F(NcclGroup, AnAsynchronousErrorEndsEveryRank) {
  for (CallsOn callsOn : {CallsOn::Host, CallsOn::Stream}) {
    fakeControl().reset();
    EXPECT_THAT(
        messagesOf(3, callsOn, 60, reduceOften),
        Each(HasSubstr("rank 1 stopped the run: LLMC-E0708: NCCL failed "
                       "on rank 1 in all_reduce of layers.3.mlp.down "
                       "(command 17, put there by lower-collectives): "
                       "remote process exited")));
    EXPECT_EQ(fakeControl().numAborted, 3);
  }
}

TEST_F(NcclGroup, CallsThatDoNotFitAreNamed) {
  EXPECT_THAT(messagesOf(2, CallsOn::Stream, 30,
                         [](Fabric& fabric) {
                           auto comm = fabric.createCommunicator({0, 1});
                           float value = 0;
                           return fabric.rank() == 0
                                      ? (*comm)->allReduce(
                                            &value, 1, DType::F32, testTag())
                                      : (*comm)->barrier(testTag("barrier"));
                         }),
              Each(HasSubstr("disagree about")));
}

TEST_F(NcclGroup, ALateRankIsWaitedFor) {
  fakeControl().delayRank = 1;
  fakeControl().delayMillis = 300;
  FabricOptions options;
  options.timeoutSeconds = 20;
  makeNcclRunner(2, CallsOn::Host)->run(options, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    float value = 1;
    EXPECT_THAT((*comm)->allReduce(&value, 1, DType::F32, testTag()), IsOk());
    EXPECT_EQ(value, 2);
  });
}

TEST_F(NcclGroup, SlowEnqueuesAreWaitedFor) {
  fakeControl().pollsToSettle = 500;
  FabricOptions options;
  options.timeoutSeconds = 20;
  makeNcclRunner(2, CallsOn::Stream)->run(options, [](Fabric& fabric) {
    auto comm = fabric.createCommunicator({0, 1});
    ASSERT_TRUE(comm.ok());
    float value = 1;
    EXPECT_THAT((*comm)->allReduce(&value, 1, DType::F32, testTag()), IsOk());
    EXPECT_EQ(value, 2);
  });
}

} // namespace
} // namespace llmrt::testing
