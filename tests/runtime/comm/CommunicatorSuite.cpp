// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/CommunicatorSuite.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>
#include <tuple>

namespace llmrt::testing {
namespace {

class LocalRunner final : public RankRunner {
public:
  explicit LocalRunner(int numRanks) : numRanks_(numRanks) {}

  int size() const override { return numRanks_; }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    auto fabrics = createLocalFabrics(numRanks_, options);
    std::vector<std::thread> threads;
    for (auto& fabric : fabrics)
      threads.emplace_back([&] { body(*fabric); });
    for (std::thread& thread : threads)
      thread.join();
  }

private:
  int numRanks_;
};

using Bytes = std::vector<uint8_t>;

const int64_t kSizes[] = {0, 1, 3, 64, 65, 2048, 8191, 8192, 8193, 1000003};

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// A value of mixed magnitude, so that the order of additions shows in the
/// bits.
float valueOf(int rank, int64_t index) {
  uint64_t bits = mix(uint64_t(rank) * 1000003 + uint64_t(index) + 1);
  float unit = float(int64_t(bits & 0xffffff) - 0x800000) / 0x800000;
  return std::ldexp(unit, int((bits >> 32) % 9) - 4);
}

/// Rounds to bf16 by choosing the nearer neighbour, the even one of two equal
/// ones.
uint16_t roundToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  uint16_t below = bits >> 16; // towards zero
  uint16_t above = below + 1;
  auto widen = [](uint16_t b) {
    return double(std::bit_cast<float>(uint32_t(b) << 16));
  };
  double toBelow = std::fabs(double(value) - widen(below));
  double toAbove = std::fabs(widen(above) - double(value));
  if (toBelow != toAbove)
    return toBelow < toAbove ? below : above;
  return below % 2 == 0 ? below : above;
}

float widenBf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}

void store(Bytes& bytes, int64_t index, float value, DType dtype) {
  if (dtype == DType::F32) {
    std::memcpy(bytes.data() + 4 * index, &value, 4);
    return;
  }
  uint16_t rounded = roundToBf16(value);
  std::memcpy(bytes.data() + 2 * index, &rounded, 2);
}

Bytes inputOf(int rank, int64_t numElements, DType dtype) {
  Bytes bytes(numElements * dtypeBytes(dtype));
  for (int64_t i = 0; i < numElements; ++i)
    store(bytes, i, valueOf(rank, i), dtype);
  return bytes;
}

/// (r0 + r1) + r2 ... over the given world ranks.
Bytes computeSerialSum(const std::vector<int>& ranks, int64_t numElements,
                       DType dtype) {
  Bytes bytes(numElements * dtypeBytes(dtype));
  for (int64_t i = 0; i < numElements; ++i) {
    float sum = 0;
    for (size_t r = 0; r < ranks.size(); ++r) {
      float value = valueOf(ranks[r], i);
      if (dtype == DType::BF16)
        value = widenBf16(roundToBf16(value));
      sum = r == 0 ? value : sum + value;
    }
    store(bytes, i, sum, dtype);
  }
  return bytes;
}

/// The same, computed once for all rank threads.
const Bytes& serialSum(const std::vector<int>& ranks, int64_t numElements,
                       DType dtype) {
  static std::mutex mutex;
  static std::map<std::tuple<std::vector<int>, int64_t, DType>, Bytes> sums;
  std::lock_guard<std::mutex> lock(mutex);
  auto [place, isNew] = sums.try_emplace({ranks, numElements, dtype});
  if (isNew)
    place->second = computeSerialSum(ranks, numElements, dtype);
  return place->second;
}

Bytes pattern(int from, int to, int64_t sizeBytes) {
  Bytes bytes(sizeBytes);
  for (int64_t i = 0; i < sizeBytes; ++i)
    bytes[i] = static_cast<uint8_t>(mix(from * 7919 + to * 104729 + i));
  return bytes;
}

/// Every message size of the suite, for payloads of bytes.
std::vector<int64_t> payloadSizes() {
  return {0, 1, 3, 4095, 4096, 32768, 32769, 1000003};
}

} // namespace

std::shared_ptr<RankRunner> makeLocalRunner(int numRanks) {
  return std::make_shared<LocalRunner>(numRanks);
}

std::vector<int> allRanks(int size) {
  std::vector<int> ranks(size);
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

void CommunicatorSuite::runFabric(
    const std::function<void(Fabric&)>& body) const {
  FabricOptions options;
  options.timeoutSeconds = 60;
  GetParam()->run(options, body);
}

void CommunicatorSuite::runAll(
    const std::function<void(Communicator&)>& body) const {
  runFabric([&](Fabric& fabric) {
    auto comm = fabric.createCommunicator(allRanks(fabric.size()));
    ASSERT_TRUE(comm.ok()) << comm.status();
    body(**comm);
  });
}

TEST_P(CommunicatorSuite, KnowsItsRanks) {
  runFabric([&](Fabric& fabric) {
    EXPECT_EQ(fabric.size(), GetParam()->size());
    auto comm = fabric.createCommunicator(allRanks(fabric.size()));
    ASSERT_TRUE(comm.ok());
    EXPECT_EQ((*comm)->rank(), fabric.rank());
    EXPECT_EQ((*comm)->size(), fabric.size());
    EXPECT_GT((*comm)->reservedBytes(), 0);
    EXPECT_TRUE(fabric.abortStatus().ok());
  });
}

TEST_P(CommunicatorSuite, AllReduceEqualsSerialSum) {
  runAll([&](Communicator& comm) {
    for (DType dtype : {DType::F32, DType::BF16}) {
      for (int64_t n : kSizes) {
        Bytes data = inputOf(comm.rank(), n, dtype);
        EXPECT_THAT(comm.allReduce(data.data(), n, dtype, testTag()), IsOk());
        EXPECT_TRUE(data == serialSum(allRanks(comm.size()), n, dtype))
            << n << " elements of type " << int(dtype);
      }
    }
  });
}

TEST_P(CommunicatorSuite, ReduceScatterEqualsItsBlockOfTheSum) {
  runAll([&](Communicator& comm) {
    for (DType dtype : {DType::F32, DType::BF16}) {
      for (int64_t n : {0, 1, 3, 1000, 9000, 333333}) {
        int64_t blockBytes = n * dtypeBytes(dtype);
        int64_t total = n * comm.size();
        const Bytes& sum = serialSum(allRanks(comm.size()), total, dtype);
        Bytes expected(sum.begin() + comm.rank() * blockBytes,
                       sum.begin() + (comm.rank() + 1) * blockBytes);
        const Bytes input = inputOf(comm.rank(), total, dtype);
        Bytes send = input;
        Bytes recv(blockBytes);
        EXPECT_THAT(comm.reduceScatter(send.data(), recv.data(), n, dtype,
                                       testTag("reduce_scatter")),
                    IsOk());
        EXPECT_TRUE(recv == expected) << n;
        EXPECT_TRUE(send == input) << "the input changed";
        // In place: the result overwrites this rank's own block.
        uint8_t* own = send.data() + comm.rank() * blockBytes;
        EXPECT_THAT(comm.reduceScatter(send.data(), own, n, dtype,
                                       testTag("reduce_scatter")),
                    IsOk());
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), own)) << n;
      }
    }
  });
}

TEST_P(CommunicatorSuite, AllGatherInAndOutOfPlace) {
  runAll([&](Communicator& comm) {
    for (int64_t n : payloadSizes()) {
      Bytes expected;
      for (int r = 0; r < comm.size(); ++r) {
        Bytes block = pattern(r, 0, n);
        expected.insert(expected.end(), block.begin(), block.end());
      }
      Bytes send = pattern(comm.rank(), 0, n);
      Bytes recv(n * comm.size());
      EXPECT_THAT(
          comm.allGather(send.data(), recv.data(), n, testTag("all_gather")),
          IsOk());
      EXPECT_TRUE(recv == expected) << n;
      Bytes inPlace(n * comm.size());
      std::copy(send.begin(), send.end(), inPlace.begin() + comm.rank() * n);
      EXPECT_THAT(comm.allGather(inPlace.data() + comm.rank() * n,
                                 inPlace.data(), n, testTag("all_gather")),
                  IsOk());
      EXPECT_TRUE(inPlace == expected) << n;
    }
  });
}

// A bucket computes what its parts compute one after the other; small ones go
// through staging memory together, large ones do not.
TEST_P(CommunicatorSuite, BucketsEqualTheirParts) {
  runAll([&](Communicator& comm) {
    for (std::vector<int64_t> sizes :
         {std::vector<int64_t>{3, 0, 17}, {1000, 1}, {9000, 3, 40000}}) {
      std::vector<Bytes> sends, alone, together;
      std::vector<BucketPart> gathers, reductions;
      for (size_t p = 0; p < sizes.size(); ++p) {
        // As large as the operand of a reduction, and its gathered result.
        int64_t numBytes = sizes[p] * 4 * comm.size();
        sends.push_back(inputOf(comm.rank() + 7 * static_cast<int>(p),
                                sizes[p] * comm.size(), DType::F32));
        alone.emplace_back(numBytes);
        together.emplace_back(numBytes);
      }
      for (size_t p = 0; p < sizes.size(); ++p) {
        gathers.push_back({sends[p].data(), together[p].data(), sizes[p] * 4});
        EXPECT_THAT(comm.allGather(sends[p].data(), alone[p].data(),
                                   sizes[p] * 4, testTag("all_gather")),
                    IsOk());
      }
      EXPECT_THAT(comm.allGatherBucket(gathers, testTag("all_gather")), IsOk());
      EXPECT_TRUE(alone == together);
      for (size_t p = 0; p < sizes.size(); ++p) {
        reductions.push_back({sends[p].data(), together[p].data(), sizes[p]});
        EXPECT_THAT(comm.reduceScatter(sends[p].data(), alone[p].data(),
                                       sizes[p], DType::F32,
                                       testTag("reduce_scatter")),
                    IsOk());
      }
      EXPECT_THAT(comm.reduceScatterBucket(reductions, DType::F32,
                                           testTag("reduce_scatter")),
                  IsOk());
      EXPECT_TRUE(alone == together);
    }
  });
}

TEST_P(CommunicatorSuite, AllToAllTransposesBlocks) {
  runAll([&](Communicator& comm) {
    for (int64_t n : {0, 1, 3, 5000, 40000, 100003}) {
      Bytes send;
      Bytes expected;
      for (int r = 0; r < comm.size(); ++r) {
        Bytes out = pattern(comm.rank(), r, n);
        Bytes in = pattern(r, comm.rank(), n);
        send.insert(send.end(), out.begin(), out.end());
        expected.insert(expected.end(), in.begin(), in.end());
      }
      Bytes recv(n * comm.size());
      EXPECT_THAT(
          comm.allToAll(send.data(), recv.data(), n, testTag("all_to_all")),
          IsOk());
      EXPECT_TRUE(recv == expected) << n;
    }
  });
}

TEST_P(CommunicatorSuite, BroadcastFromEveryRoot) {
  runAll([&](Communicator& comm) {
    for (int64_t n : payloadSizes()) {
      for (int root = 0; root < comm.size(); ++root) {
        Bytes data = pattern(comm.rank(), 9, n);
        EXPECT_THAT(comm.broadcast(data.data(), n, root, testTag("broadcast")),
                    IsOk());
        EXPECT_TRUE(data == pattern(root, 9, n)) << n << " from " << root;
      }
    }
  });
}

TEST_P(CommunicatorSuite, ExchangeRingAndPipeline) {
  runAll([&](Communicator& comm) {
    if (comm.size() == 1)
      return;
    int next = (comm.rank() + 1) % comm.size();
    int previous = (comm.rank() + comm.size() - 1) % comm.size();
    for (int64_t n : payloadSizes()) {
      Bytes out = pattern(comm.rank(), 1, n);
      Bytes in(n + 5);
      EXPECT_THAT(comm.exchange(out.data(), n, next, in.data(), n, previous,
                                testTag("exchange")),
                  IsOk());
      in.resize(n);
      EXPECT_TRUE(in == pattern(previous, 1, n)) << n;
      // Down the pipeline and back to the first stage.
      Bytes token = pattern(0, 2, n);
      if (comm.rank() > 0) {
        token.assign(n, 0);
        EXPECT_THAT(comm.recv(token.data(), n, previous, testTag("recv")),
                    IsOk());
      }
      EXPECT_THAT(comm.send(token.data(), n, next, testTag("send")), IsOk());
      if (comm.rank() == 0) {
        EXPECT_THAT(comm.recv(token.data(), n, previous, testTag("recv")),
                    IsOk());
      }
      EXPECT_TRUE(token == pattern(0, 2, n)) << n;
    }
  });
}

TEST_P(CommunicatorSuite, ExchangeWithoutPeersDoesNothing) {
  runAll([&](Communicator& comm) {
    EXPECT_THAT(comm.exchange(nullptr, 0, -1, nullptr, 0, -1, testTag()),
                IsOk());
  });
}

TEST_P(CommunicatorSuite, GroupsAlongAxesInTurns) {
  runFabric([&](Fabric& fabric) {
    // Rows and columns of a grid of width 2, and all ranks in reverse order.
    int size = fabric.size();
    std::vector<int> row, column, reversed;
    for (int r = size - 1; r >= 0; --r)
      reversed.push_back(r);
    for (int r = 0; r < size; ++r) {
      if (r / 2 == fabric.rank() / 2)
        row.push_back(r);
      if (r % 2 == fabric.rank() % 2)
        column.push_back(r);
    }
    std::vector<std::vector<int>> groups = {row, column, reversed, row};
    std::vector<std::unique_ptr<Communicator>> comms;
    for (const std::vector<int>& group : groups) {
      auto comm = fabric.createCommunicator(group);
      ASSERT_TRUE(comm.ok()) << comm.status();
      comms.push_back(std::move(*comm));
    }
    for (int round = 0; round < 20; ++round) {
      int64_t n = round % 2 ? 9000 : 100 + round;
      for (size_t g = 0; g < groups.size(); ++g) {
        Bytes data = inputOf(fabric.rank(), n, DType::F32);
        EXPECT_THAT(comms[g]->allReduce(data.data(), n, DType::F32, testTag()),
                    IsOk());
        EXPECT_TRUE(data == serialSum(groups[g], n, DType::F32))
            << "group " << g << " round " << round;
      }
    }
  });
}

TEST_P(CommunicatorSuite, ManySmallMessages) {
  runAll([&](Communicator& comm) {
    int numRounds = comm.size() <= 2 ? 20000 : 2000;
    for (int round = 0; round < numRounds; ++round) {
      float value = float(comm.rank() + round);
      ASSERT_THAT(comm.allReduce(&value, 1, DType::F32, testTag()), IsOk());
      float expected = float(comm.size()) * float(round) +
                       float(comm.size() * (comm.size() - 1) / 2);
      ASSERT_EQ(value, expected) << round;
      int32_t record = comm.rank() == 0 ? round : -1;
      ASSERT_THAT(comm.broadcast(&record, 4, 0, testTag("broadcast")), IsOk());
      ASSERT_EQ(record, round);
    }
    EXPECT_THAT(comm.barrier(testTag("barrier")), IsOk());
  });
}

TEST_P(CommunicatorSuite, BarrierWaitsForTheLast) {
  std::atomic<int> numArrived{0};
  runAll([&](Communicator& comm) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5 * comm.rank()));
    ++numArrived;
    EXPECT_THAT(comm.barrier(testTag("barrier")), IsOk());
    // Processes of an MPI job each count their own arrival only.
    EXPECT_TRUE(numArrived == comm.size() || numArrived == 1);
  });
}

TEST_P(CommunicatorSuite, WrongArgumentsAreRefused) {
  runFabric([&](Fabric& fabric) {
    int size = fabric.size();
    EXPECT_FALSE(fabric.createCommunicator({}).ok());
    EXPECT_FALSE(fabric.createCommunicator({fabric.rank(), size}).ok());
    EXPECT_FALSE(
        fabric.createCommunicator({fabric.rank(), fabric.rank()}).ok());
    EXPECT_FALSE(
        fabric.createCommunicator({(fabric.rank() + 1) % size, -1}).ok());
    auto comm = fabric.createCommunicator(allRanks(size));
    ASSERT_TRUE(comm.ok());
    int32_t value = 0;
    EXPECT_EQ((*comm)->allReduce(&value, 1, DType::I32, testTag()).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*comm)->send(&value, 4, size, testTag()).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*comm)->send(&value, 4, fabric.rank(), testTag()).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*comm)->broadcast(&value, 4, size, testTag()).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_THAT((*comm)->barrier(testTag("barrier")), IsOk());
  });
}

} // namespace llmrt::testing
