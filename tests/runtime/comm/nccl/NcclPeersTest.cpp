// SPDX-License-Identifier: Apache-2.0
// Which all-reduces of `nccl` go over peer memory, and that all ranks choose
// alike. Values and failures over it: the suites of NcclCommunicatorTest and
// NcclFailureTest, whose devices reach each other.
#include "runtime/comm/cuda/PeerSum.h"
#include "tests/runtime/comm/nccl/NcclRunner.h"

#include <cstdlib>
#include <numeric>

namespace llmrt::testing {
namespace {

/// Sums over peers that the ranks enqueue for all-reduces of these bytes, of
/// which each has the right result.
int numPeerSums(int numRanks, CallsOn callsOn,
                const std::vector<int64_t>& sizes) {
  fakeControl().reset();
  const int before = numFakePeerSums();
  FabricOptions options;
  options.timeoutSeconds = 30;
  makeNcclRunner(numRanks, callsOn)->run(options, [&](Fabric& fabric) {
    auto comm = fabric.createCommunicator(allRanks(fabric.size()));
    ASSERT_TRUE(comm.ok()) << comm.status();
    for (int64_t sizeBytes : sizes) {
      std::vector<float> data(sizeBytes / 4, fabric.rank() + 1.0f);
      ASSERT_THAT(
          (*comm)->allReduce(data.data(), sizeBytes / 4, DType::F32, testTag()),
          IsOk());
      for (float value : data)
        ASSERT_EQ(value, fabric.size() * (fabric.size() + 1) / 2);
    }
  });
  return numFakePeerSums() - before;
}

TEST(NcclPeers, SmallMessagesGoOverPeerMemory) {
  const std::vector<int64_t> sizes = {4, kMaxPeerSumBytes, kMaxPeerSumBytes + 4,
                                      0};
  EXPECT_EQ(numPeerSums(3, CallsOn::Stream, sizes), 3 * 2);
  EXPECT_EQ(numPeerSums(kMaxPeers, CallsOn::Stream, {4000}), kMaxPeers);
}

TEST(NcclPeers, OthersGoToNccl) {
  EXPECT_EQ(numPeerSums(1, CallsOn::Stream, {4000}), 0);
  EXPECT_EQ(numPeerSums(kMaxPeers + 1, CallsOn::Stream, {4000}), 0);
  EXPECT_EQ(numPeerSums(2, CallsOn::Host, {4000}), 0);
  EXPECT_EQ(numPeerSums(2, CallsOn::StreamWithoutPeers, {4000}), 0);
  ::setenv("LLMRT_PEER_SUMS", "off", 1);
  EXPECT_EQ(numPeerSums(2, CallsOn::Stream, {4000}), 0);
  ::unsetenv("LLMRT_PEER_SUMS");
}

// One that does not reach the others keeps all of them from it.
TEST(NcclPeers, AllRanksChooseAlike) {
  for (int lonely : {0, 2}) {
    setLonelyFakeRank(lonely);
    EXPECT_EQ(numPeerSums(3, CallsOn::Stream, {4000, 8}), 0);
  }
  setLonelyFakeRank(-1);
  EXPECT_EQ(numPeerSums(3, CallsOn::Stream, {4000, 8}), 6);
}

TEST(NcclPeers, CountsItsMemory) {
  for (CallsOn callsOn : {CallsOn::Stream, CallsOn::StreamWithoutPeers})
    makeNcclRunner(2, callsOn)->run({}, [&](Fabric& fabric) {
      auto comm = fabric.createCommunicator({0, 1});
      ASSERT_TRUE(comm.ok()) << comm.status();
      EXPECT_EQ((*comm)->reservedBytes() >= int64_t{sizeof(PeerMemory)},
                callsOn == CallsOn::Stream);
    });
}

// Groups are left in different orders; nobody waits for anybody meanwhile.
TEST(NcclPeers, GroupsEndInAnyOrder) {
  makeNcclRunner(3, CallsOn::Stream)->run({}, [&](Fabric& fabric) {
    auto first = fabric.createCommunicator(allRanks(3));
    auto second = fabric.createCommunicator(allRanks(3));
    ASSERT_TRUE(first.ok() && second.ok());
    for (int i = 0; i < 20; ++i)
      for (auto* comm : {&*first, &*second}) {
        float value = 1;
        ASSERT_THAT((*comm)->allReduce(&value, 1, DType::F32, testTag()),
                    IsOk());
        ASSERT_EQ(value, 3);
      }
    (fabric.rank() % 2 ? *first : *second).reset();
  });
}

} // namespace
} // namespace llmrt::testing
