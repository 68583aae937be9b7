// SPDX-License-Identifier: Apache-2.0
// The kernel of sums over peers on a real GPU: ranks are threads that share it,
// each with a stream, so that their kernels wait for each other on the device.
#include "runtime/comm/RankOrderSum.h"
#include "runtime/comm/cuda/CudaTable.h"
#include "tests/support/WrongElements.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace llmrt::testing {
namespace {

constexpr int kNumCalls = 200;
// Of a call that takes microseconds: then a rank is lost.
constexpr std::chrono::seconds kLongestCall(10);

struct RankMemory {
  void* peer = nullptr;
  void* data = nullptr;
  // Pinned: copies of pageable memory wait in the driver behind the kernel, and
  // the kernel waits for ranks that need the same driver.
  void* host = nullptr;
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

absl::Span<const uint8_t> bytesOf(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4};
}

/// Ends the kernels of all ranks.
void abortAll(std::vector<RankMemory>& all) {
  for (RankMemory& rank : all)
    static_cast<volatile uint64_t*>(rank.words)[2] = 1;
}

/// Waits until the rank's stream is empty.
int finish(const CudaTable& cuda, std::vector<RankMemory>& all, int rank) {
  const auto ends = std::chrono::steady_clock::now() + kLongestCall;
  int code = CudaTable::kNotReady;
  while ((code = cuda.streamQuery(cuda.device, all[rank].stream)) ==
         CudaTable::kNotReady) {
    if (std::chrono::steady_clock::now() > ends)
      abortAll(all);
    std::this_thread::yield();
  }
  return code;
}

PeerSumCall sumOf(std::vector<RankMemory>& all, int rank, int call,
                  int64_t numElements) {
  RankMemory& mine = all[rank];
  auto* words = static_cast<uint64_t*>(mine.words);
  auto* counts = static_cast<uint32_t*>(mine.counts);
  PeerSumCall sum = {};
  sum.data = mine.data;
  sum.numElements = numElements;
  sum.rank = rank;
  sum.numRanks = static_cast<int>(all.size());
  for (size_t r = 0; r < all.size(); ++r)
    sum.peers[r] = static_cast<PeerMemory*>(all[r].peer);
  sum.isAborted = reinterpret_cast<uint32_t*>(words + 2);
  sum.number = call;
  sum.beginWord = words;
  sum.endWord = words + 1;
  sum.beginCount = counts;
  sum.endCount = counts + 1;
  return sum;
}

void runCall(const CudaTable& cuda, std::vector<RankMemory>& all, int rank,
             int call, int64_t numElements) {
  RankMemory& mine = all[rank];
  std::vector<std::vector<float>> inputs;
  std::vector<const void*> blocks;
  inputs.reserve(all.size());
  blocks.reserve(all.size());
  for (size_t r = 0; r < all.size(); ++r)
    inputs.push_back(inputOf(static_cast<int>(r), call, numElements));
  for (const auto& input : inputs)
    blocks.push_back(input.data());
  std::vector<float> expected(numElements), actual(numElements);
  addInRankOrder(expected.data(), blocks, numElements, DType::F32);
  const int64_t sizeBytes = numElements * 4;
  std::memcpy(mine.host, inputs[rank].data(), sizeBytes);
  ASSERT_EQ(
      cuda.copy(cuda.device, mine.stream, mine.data, mine.host, sizeBytes), 0);
  ASSERT_EQ(finish(cuda, all, rank), 0);
  ASSERT_EQ(cuda.sumOverPeers(cuda.device, mine.stream,
                              sumOf(all, rank, call, numElements)),
            0);
  ASSERT_EQ(finish(cuda, all, rank), 0);
  const auto* words = static_cast<const volatile uint64_t*>(mine.words);
  ASSERT_EQ(words[2], 0u) << "rank " << rank << " call " << call
                          << " waited for another rank too long";
  ASSERT_EQ(
      cuda.copy(cuda.device, mine.stream, mine.host, mine.data, sizeBytes), 0);
  ASSERT_EQ(finish(cuda, all, rank), 0);
  std::memcpy(actual.data(), mine.host, sizeBytes);
  ASSERT_EQ(test::describeOtherBits(bytesOf(actual), bytesOf(expected)), "")
      << "rank " << rank << " call " << call;
  ASSERT_EQ(words[1], uint64_t(call + 1) << 32 | call);
}

/// All calls of a rank; its failure ends the others, too.
void run(const CudaTable& cuda, std::vector<RankMemory>& all, int rank) {
  std::mt19937 random(7); // the same sizes on all ranks
  for (int call = 0; call < kNumCalls && !::testing::Test::HasFailure();
       ++call) {
    const int64_t numElements =
        call == 0 ? kMaxPeerSumBytes / 4 : random() % 20000 + 1;
    runCall(cuda, all, rank, call, numElements);
  }
  if (::testing::Test::HasFailure())
    abortAll(all);
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
      ASSERT_EQ(cuda->allocatePinned(0, &rank.host, kMaxPeerSumBytes), 0);
      ASSERT_EQ(cuda->allocatePinned(0, &rank.words, 64), 0);
      ASSERT_EQ(cuda->streamCreate(0, &rank.stream), 0);
    }
    std::vector<std::thread> threads;
    threads.reserve(numRanks);
    for (int rank = 0; rank < numRanks; ++rank)
      threads.emplace_back([&, rank] { run(*cuda, all, rank); });
    for (std::thread& thread : threads)
      thread.join();
    for (RankMemory& rank : all) {
      cuda->streamDestroy(0, rank.stream);
      for (void* memory : {rank.host, rank.words})
        cuda->freePinned(0, memory);
      for (void* memory : {rank.peer, rank.data, rank.counts})
        cuda->freeDevice(0, memory);
    }
  }
}

} // namespace
} // namespace llmrt::testing
