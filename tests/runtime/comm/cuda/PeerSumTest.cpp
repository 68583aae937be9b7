// SPDX-License-Identifier: Apache-2.0
// The kernel of sums over peers by emulation, each rank a thread: bits of sums
// in rank order, the same memory used by thousands of calls of all sizes, and
// what ends a call that a rank does not come to.
#include "runtime/comm/RankOrderSum.h"
#include "tests/runtime/comm/cuda/EmulatedPeerSum.h"

#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace llmrt::testing {
namespace {

/// Ranks with their memory, marks and data.
class Peers {
public:
  explicit Peers(int numRanks) : numRanks_(numRanks) {
    for (int r = 0; r < numRanks; ++r) {
      memory_.push_back(std::make_unique<PeerMemory>());
      std::memset(memory_.back().get(), 0, sizeof(PeerMemory));
    }
    words_.resize(numRanks);
  }

  struct Words {
    uint64_t begin = 0, end = 0;
    uint32_t beginCount = 0, endCount = 0;
    uint32_t isAborted = 0;
  };

  Words& words(int rank) { return words_[rank]; }

  PeerSumCall call(int rank, void* data, int64_t numElements, DType dtype,
                   uint32_t number) {
    PeerSumCall call = {};
    call.data = data;
    call.numElements = numElements;
    call.isBf16 = dtype == DType::BF16;
    call.rank = rank;
    call.numRanks = numRanks_;
    for (int r = 0; r < numRanks_; ++r)
      call.peers[r] = memory_[r].get();
    call.isAborted = &words_[rank].isAborted;
    call.number = number;
    call.beginWord = &words_[rank].begin;
    call.beginCount = &words_[rank].beginCount;
    call.endWord = &words_[rank].end;
    call.endCount = &words_[rank].endCount;
    return call;
  }

private:
  int numRanks_;
  std::vector<std::unique_ptr<PeerMemory>> memory_;
  std::vector<Words> words_;
};

/// What a rank gives to call number `turn`: sums of these depend on the order.
std::vector<uint8_t> dataOf(int rank, int turn, int64_t numElements,
                            DType dtype) {
  std::mt19937 random(rank * 7919 + turn);
  std::vector<uint8_t> bytes(numElements * dtypeBytes(dtype));
  for (int64_t i = 0; i < numElements; ++i) {
    const float value = std::ldexp(1 + random() % 1000 / 1000.0f,
                                   static_cast<int>(random() % 20) - 10);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (random() % 2)
      bits |= 1u << 31;
    if (dtype == DType::BF16)
      bits >>= 16;
    std::memcpy(&bytes[i * dtypeBytes(dtype)], &bits, dtypeBytes(dtype));
  }
  return bytes;
}

struct Message {
  int64_t numElements;
  DType dtype;
};

/// Every rank makes all calls, at its own pace.
void expectSums(int numRanks, const std::vector<Message>& messages) {
  Peers peers(numRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < numRanks; ++rank)
    threads.emplace_back([&, rank] {
      std::mt19937 random(rank);
      for (size_t turn = 0; turn < messages.size(); ++turn) {
        const auto& [numElements, dtype] = messages[turn];
        const int at = static_cast<int>(turn);
        // Guarded, and every other one at an odd address.
        const int64_t offset = 16 + turn % 2 * dtypeBytes(dtype);
        std::vector<uint8_t> mine = dataOf(rank, at, numElements, dtype);
        std::vector<uint8_t> bytes(mine.size() + 48, 0xA5);
        uint8_t* data = bytes.data() + offset;
        std::memcpy(data, mine.data(), mine.size());
        if (random() % 8 == 0)
          std::this_thread::sleep_for(
              std::chrono::microseconds(random() % 300));
        ASSERT_EQ(emulatePeerSum(
                      peers.call(rank, data, numElements, dtype, at + 100)),
                  "");
        std::vector<std::vector<uint8_t>> all;
        std::vector<const void*> blocks;
        for (int r = 0; r < numRanks; ++r)
          all.push_back(dataOf(r, at, numElements, dtype));
        for (const auto& each : all)
          blocks.push_back(each.data());
        std::vector<uint8_t> expected(mine.size());
        addInRankOrder(expected.data(), blocks, numElements, dtype);
        ASSERT_EQ(std::memcmp(data, expected.data(), expected.size()), 0)
            << "rank " << rank << " call " << turn << " of " << numElements;
        for (size_t i = 0; i < bytes.size(); ++i)
          if (i < static_cast<size_t>(offset) || i >= offset + mine.size()) {
            ASSERT_EQ(bytes[i], 0xA5) << "beside the data";
          }
        const Peers::Words& words = peers.words(rank);
        ASSERT_EQ(words.begin, uint64_t{turn + 1} << 32 | (turn + 100));
        ASSERT_EQ(words.end, words.begin);
      }
    });
  for (std::thread& thread : threads)
    thread.join();
}

TEST(PeerSum, HasTheBitsOfSumsInRankOrder) {
  const int64_t most = kMaxPeerSumBytes;
  for (int numRanks : {1, 2, 3, 8})
    expectSums(numRanks, {{1, DType::F32},
                          {1, DType::BF16},
                          {5, DType::F32},
                          {1023, DType::F32},
                          {1025, DType::F32},
                          {2047, DType::BF16},
                          {4099, DType::BF16},
                          {most / 4 - 1, DType::F32},
                          {most / 4, DType::F32},
                          {most / 2, DType::BF16}});
}

// A place is written again two turns later: a race would show as a sum of
// another call.
TEST(PeerSum, UsesItsMemoryAgain) {
  for (int numRanks : {2, 3, 8}) {
    std::mt19937 random(numRanks);
    std::vector<Message> messages;
    const int numCalls = numRanks == 8 ? 100 : 400;
    for (int i = 0; i < numCalls; ++i)
      messages.push_back(
          {static_cast<int64_t>(random() % (i % 16 == 0 ? 9000 : 600) + 1),
           random() % 2 ? DType::F32 : DType::BF16});
    expectSums(numRanks, messages);
  }
}

TEST(PeerSum, EndsWhenTheHostSaysSo) {
  Peers peers(3);
  std::vector<float> data(2000, 1.0f);
  std::thread waiting([&] {
    EXPECT_EQ(emulatePeerSum(peers.call(0, data.data(), 2000, DType::F32, 5)),
              "");
  });
  Peers::Words& words = peers.words(0);
  while (std::atomic_ref<uint64_t>(words.begin).load() == 0)
    std::this_thread::yield();
  std::atomic_ref<uint32_t>(words.isAborted).store(1);
  waiting.join();
  EXPECT_EQ(words.begin, uint64_t{1} << 32 | 5);
  EXPECT_EQ(words.end, 0u) << "it is still inside";
  EXPECT_EQ(data, std::vector<float>(2000, 1.0f));
}

// Ranks that do not agree wait for each other, so that the watchers find them.
TEST(PeerSum, DoesNotAddDifferentCalls) {
  Peers peers(2);
  std::vector<float> data[2] = {std::vector<float>(100, 1.0f),
                                std::vector<float>(101, 1.0f)};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      (void)emulatePeerSum(peers.call(rank, data[rank].data(),
                                      data[rank].size(), DType::F32, 1));
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(std::atomic_ref<uint64_t>(peers.words(rank).end).load(), 0u);
    std::atomic_ref<uint32_t>(peers.words(rank).isAborted).store(1);
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(data[0], std::vector<float>(100, 1.0f));
}

} // namespace
} // namespace llmrt::testing
