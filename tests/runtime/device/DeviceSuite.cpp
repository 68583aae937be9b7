// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/device/DeviceSuite.h"

#include <algorithm>
#include <numeric>

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

TEST_P(DeviceSuite, CountsEveryByteByClass) {
  for (int64_t sizeBytes : {int64_t{1}, int64_t{4096}, int64_t{5} << 20}) {
    auto memory =
        device_->allocate(MemorySpace::Device, MemoryClass::Caches, sizeBytes);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_EQ(bytesOf(MemoryClass::Caches), sizeBytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(*memory) % 4096, 0u);
    std::vector<char> bytes(sizeBytes, 1);
    device_->copy(Stream::Compute, bytes.data(), *memory, sizeBytes);
    ASSERT_TRUE(device_->synchronize().ok());
    EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 0), sizeBytes);
    device_->release(*memory);
    EXPECT_EQ(bytesOf(MemoryClass::Caches), 0);
  }
  auto nothing = device_->allocate(MemorySpace::Device, MemoryClass::Caches, 0);
  EXPECT_TRUE(nothing.ok() && *nothing == nullptr);
  device_->release(nullptr);
  device_->countBytes(MemoryClass::Communication, 100);
  device_->countBytes(MemoryClass::Communication, -40);
  EXPECT_EQ(bytesOf(MemoryClass::Communication), 60);
}

TEST_P(DeviceSuite, RefusesMemoryThatIsNotThere) {
  auto memory = device_->allocate(MemorySpace::Device, MemoryClass::Parameters,
                                  int64_t{1} << 46);
  EXPECT_THAT(memory.status().message(), HasSubstr("LLMC-E0803"));
  EXPECT_THAT(memory.status().message(), HasSubstr("parameters"));
  EXPECT_EQ(bytesOf(MemoryClass::Parameters), 0);
  auto file = device_->allocate(MemorySpace::File, MemoryClass::Parameters, 64);
  EXPECT_THAT(file.status().message(), HasSubstr("LLMC-E0805"));
}

TEST_P(DeviceSuite, CopiesAndFillsOnBothStreams) {
  for (Stream stream : {Stream::Compute, Stream::Communication}) {
    uint32_t* a = allocate<uint32_t>(1000);
    uint32_t* b = allocate<uint32_t>(1000);
    device_->fill(stream, a, 0xABCD1234, 4000);
    device_->copy(stream, b, a, 4000);
    ASSERT_TRUE(device_->synchronize().ok());
    EXPECT_THAT(download(b, 1000), ::testing::Each(0xABCD1234));
    device_->fill(stream, a, 0, 4000);
    ASSERT_TRUE(device_->synchronize().ok());
    EXPECT_THAT(download(a, 1000), ::testing::Each(0u));
  }
}

// Over several pieces of what is looked at once, at odd places.
TEST_P(DeviceSuite, GuardedMemoryTellsWhatWasWritten) {
  constexpr int64_t kPiece = GuardedMemory::kMostReadBytes;
  constexpr uint32_t kPattern = GuardedMemory::kPattern;
  const BytesByClass held = device_->bytesByClass();
  auto made = device_->allocateGuarded(3 * kPiece);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(device_->bytesByClass(), held);
  GuardedMemory& memory = **made;
  const int64_t begin = 4096 + 64, end = 2 * kPiece + 4096 + 61;
  const uint8_t one = 1;
  for (int64_t at : {begin, begin + 1, begin + kPiece - 1, begin + kPiece,
                     end - kPiece, end - 1}) {
    memory.open(begin, end - begin, kPattern);
    EXPECT_EQ(memory.firstOther(begin, end, kPattern), end);
    EXPECT_EQ(memory.endOfOther(begin, end, kPattern), begin);
    device_->copy(Stream::Compute, memory.data() + at, &one, 1);
    EXPECT_EQ(memory.firstOther(begin, end, kPattern), at);
    EXPECT_EQ(memory.endOfOther(begin, end, kPattern), at + 1);
    EXPECT_EQ(*memory.read(at, 1), 1);
    memory.close(begin, end - begin);
  }
  memory.open(begin, end - begin, 0);
  EXPECT_EQ(memory.touchedBytes(begin, end - begin, 0), 0);
  device_->copy(Stream::Compute, memory.data() + begin + 37, &one, 1);
  const int64_t touched = memory.touchedBytes(begin, end - begin, 0);
  EXPECT_EQ(touched, memory.trapsAccesses() ? 4096 - 64 : 40);
  EXPECT_TRUE(memory.status().ok()) << memory.status();
}

TEST_P(DeviceSuite, GuardedMemoryTellsAWriteToWhatIsClosed) {
  auto made = device_->allocateGuarded(4 * 4096);
  ASSERT_TRUE(made.ok()) << made.status();
  GuardedMemory& memory = **made;
  memory.open(4096, 4096, GuardedMemory::kPattern);
  memory.setMark(Stream::Compute, 7);
  EXPECT_FALSE(memory.takeFault());
  const uint32_t one = 1;
  device_->copy(Stream::Compute, memory.data() + 8192 + 12, &one, 4);
  if (!memory.trapsAccesses()) {
    EXPECT_EQ(memory.firstOther(8192, 16384, GuardedMemory::kPattern),
              8192 + 12);
    EXPECT_FALSE(memory.takeFault());
    return;
  }
  std::optional<AccessFault> fault = memory.takeFault();
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->offset, 8192 + 12);
  EXPECT_EQ(fault->mark, 7);
}

TEST_P(DeviceSuite, LaunchesAHandTunedKernel) {
  auto kernel = device_->findHandTunedKernel("select_rows", 1);
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  std::vector<float> rows(12);
  std::iota(rows.begin(), rows.end(), 0.0f);
  float* x = upload(rows);
  int32_t* validRows = upload<int32_t>({2, 3});
  float* out = allocate<float>(4);
  const std::vector<uint64_t> values = {2,
                                        reinterpret_cast<uint64_t>(x),
                                        reinterpret_cast<uint64_t>(validRows),
                                        reinterpret_cast<uint64_t>(out),
                                        3,
                                        2};
  uint64_t* words = upload(values);
  device_->launch({*kernel, words, values.data(), 2, 2, 1, 0, 0});
  EXPECT_THAT(download(out, 4), ::testing::ElementsAre(2, 3, 10, 11));
  EXPECT_THAT(
      device_->findHandTunedKernel("select_rows", 99).status().message(),
      HasSubstr("LLMC-E0802"));
}

TEST_P(DeviceSuite, CallsOfBothStreamsKeepOneOrder) {
  std::vector<int> order; // written by whoever runs a call: one at a time
  std::vector<std::unique_ptr<TestCall>> calls;
  for (int i = 0; i < 3000; ++i) {
    calls.push_back(std::make_unique<TestCall>([&order, i] {
      order.push_back(i);
      return absl::OkStatus();
    }));
    device_->call(i % 7 == 3 ? Stream::Compute : Stream::Communication,
                  *calls.back());
  }
  ASSERT_TRUE(device_->synchronize().ok());
  ASSERT_EQ(order.size(), 3000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(DeviceSuite, AfterAnErrorNothingRunsUntilSynchronize) {
  for (Stream stream : {Stream::Compute, Stream::Communication}) {
    int runs = 0;
    TestCall fails([] { return absl::AbortedError("broken"); });
    TestCall counts([&] {
      ++runs;
      return absl::OkStatus();
    });
    device_->call(stream, fails);
    device_->call(stream, counts);
    EXPECT_THAT(device_->synchronize().message(), HasSubstr("broken"));
    EXPECT_EQ(runs, 0);
    device_->call(stream, counts);
    EXPECT_TRUE(device_->synchronize().ok());
    EXPECT_EQ(runs, 1);
  }
}

// What one stream does before an event is there when another one is behind it.
TEST_P(DeviceSuite, EventsOrderStreams) {
  constexpr int64_t kCount = 1 << 20;
  uint32_t* a = allocate<uint32_t>(kCount);
  uint32_t* b = allocate<uint32_t>(kCount);
  EventId filled = device_->createEvent();
  EventId copied = device_->createEvent();
  for (uint32_t round = 1; round <= 20; ++round) {
    device_->fill(Stream::Communication, a, round * 0x01020304, kCount * 4);
    device_->record(filled, Stream::Communication);
    device_->wait(Stream::Compute, filled);
    device_->copy(Stream::Compute, b, a, kCount * 4);
    device_->record(copied, Stream::Compute);
    device_->wait(Stream::Communication, copied);
  }
  EXPECT_THAT(download(b, kCount), ::testing::Each(20u * 0x01020304));
}

} // namespace
} // namespace llmrt::testing
