// SPDX-License-Identifier: Apache-2.0
// The kernel of sums over peers on a real GPU: ranks are threads that share it,
// each with a stream, so that their kernels wait for each other on the device.
#include "runtime/comm/RankOrderSum.h"
#include "runtime/comm/cuda/CudaTable.h"

#include <gtest/gtest.h>
#include <random>
#include <thread>
#include <vector>

namespace llmrt::testing {
namespace {

constexpr int kNumCalls = 200;

struct RankMemory {
  void* peer = nullptr;
  void* data = nullptr;
  void* words = nullptr;  // pinned: begin, end, isAborted
  void* counts = nullptr; // begin, end
  void* stream = nullptr;
};

std::vector<float> inputOf(int rank, int call, int64_t numElements) {
  std::mt19937 random(rank * 1000 + call);
  std::normal_distribution<float> normal;
  std::vector<float> values(numElements);
  for (float& value : values)
    value = normal(random);
  return values;
}

void run(const CudaTable& cuda, std::vector<RankMemory>& all, int rank) {
  RankMemory& mine = all[rank];
  auto finish = [&] {
    int code = CudaTable::kNotReady;
    while ((code = cuda.streamQuery(cuda.device, mine.stream)) ==
           CudaTable::kNotReady)
      std::this_thread::yield();
    return code;
  };
  std::mt19937 random(7); // the same sizes on all ranks
  for (int call = 0; call < kNumCalls; ++call) {
    const int64_t numElements =
        call == 0 ? kMaxPeerSumBytes / 4 : random() % 20000 + 1;
    std::vector<std::vector<float>> inputs;
    std::vector<const void*> blocks;
    for (size_t r = 0; r < all.size(); ++r)
      inputs.push_back(inputOf(static_cast<int>(r), call, numElements));
    for (const auto& input : inputs)
      blocks.push_back(input.data());
    std::vector<float> expected(numElements), actual(numElements);
    addInRankOrder(expected.data(), blocks, numElements, DType::F32);
    ASSERT_EQ(cuda.copy(cuda.device, mine.stream, mine.data,
                        inputs[rank].data(), numElements * 4),
              0);
    PeerSumCall sum = {};
    sum.data = mine.data;
    sum.numElements = numElements;
    sum.rank = rank;
    sum.numRanks = static_cast<int>(all.size());
    for (size_t r = 0; r < all.size(); ++r)
      sum.peers[r] = static_cast<PeerMemory*>(all[r].peer);
    auto* words = static_cast<uint64_t*>(mine.words);
    auto* counts = static_cast<uint32_t*>(mine.counts);
    sum.isAborted = reinterpret_cast<uint32_t*>(words + 2);
    sum.number = call;
    sum.beginWord = words;
    sum.endWord = words + 1;
    sum.beginCount = counts;
    sum.endCount = counts + 1;
    ASSERT_EQ(cuda.sumOverPeers(cuda.device, mine.stream, sum), 0);
    ASSERT_EQ(cuda.copy(cuda.device, mine.stream, actual.data(), mine.data,
                        numElements * 4),
              0);
    ASSERT_EQ(finish(), 0);
    ASSERT_EQ(actual, expected) << "rank " << rank << " call " << call;
    ASSERT_EQ(words[1], uint64_t(call + 1) << 32 | call);
  }
}

TEST(PeerSumOnGpu, HasTheBitsOfSumsInRankOrder) {
  for (int numRanks : {1, 2, 3, 8}) {
    auto cuda = loadCudaTable(0);
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    std::vector<RankMemory> all(numRanks);
    for (RankMemory& rank : all) {
      ASSERT_EQ(cuda->allocateDevice(0, &rank.peer, sizeof(PeerMemory)), 0);
      ASSERT_EQ(cuda->allocateDevice(0, &rank.data, kMaxPeerSumBytes), 0);
      ASSERT_EQ(cuda->allocateDevice(0, &rank.counts, 64), 0);
      ASSERT_EQ(cuda->allocatePinned(0, &rank.words, 64), 0);
      ASSERT_EQ(cuda->streamCreate(0, &rank.stream), 0);
    }
    std::vector<std::thread> threads;
    for (int rank = 0; rank < numRanks; ++rank)
      threads.emplace_back([&, rank] { run(*cuda, all, rank); });
    for (std::thread& thread : threads)
      thread.join();
    for (RankMemory& rank : all) {
      cuda->streamDestroy(0, rank.stream);
      cuda->freePinned(0, rank.words);
      for (void* memory : {rank.peer, rank.data, rank.counts})
        cuda->freeDevice(0, memory);
    }
  }
}

} // namespace
} // namespace llmrt::testing
