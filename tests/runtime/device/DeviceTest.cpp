// SPDX-License-Identifier: Apache-2.0
// What every device must do. Back-ends are added to the list at the end.
#include "runtime/device/Device.h"
#include "runtime/base/MappedFile.h"
#include "runtime/kernels/KernelRegistry.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

namespace llmrt {
namespace {

using ::testing::HasSubstr;
using MakeDevice = std::unique_ptr<Device> (*)();

class DeviceSuite : public ::testing::TestWithParam<MakeDevice> {
protected:
  std::unique_ptr<Device> device_ = GetParam()();

  int64_t bytesOf(MemoryClass memoryClass) {
    return device_->bytesByClass()[static_cast<int>(memoryClass)];
  }

  template <typename T>
  T* allocate(int64_t count) {
    auto memory = device_->allocate(MemorySpace::Device, MemoryClass::Workspace,
                                    count * static_cast<int64_t>(sizeof(T)));
    EXPECT_TRUE(memory.ok()) << memory.status();
    return static_cast<T*>(*memory);
  }
};

/// A call that does what it is given.
class TestCall final : public StreamCall {
public:
  explicit TestCall(std::function<absl::Status()> body)
      : body_(std::move(body)) {}

  absl::Status run() override { return body_(); }

private:
  std::function<absl::Status()> body_;
};

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
    EXPECT_EQ(b[0], 0xABCD1234);
    EXPECT_EQ(b[999], 0xABCD1234);
  }
}

TEST_P(DeviceSuite, LaunchesAHandTunedKernel) {
  auto kernel = device_->findHandTunedKernel("select_rows", 1);
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  float* x = allocate<float>(12);
  int32_t* validRows = allocate<int32_t>(2);
  float* out = allocate<float>(4);
  uint64_t* words = allocate<uint64_t>(6);
  for (int i = 0; i < 12; ++i)
    x[i] = i;
  validRows[0] = 2;
  validRows[1] = 3;
  uint64_t values[] = {2,
                       reinterpret_cast<uint64_t>(x),
                       reinterpret_cast<uint64_t>(validRows),
                       reinterpret_cast<uint64_t>(out),
                       3,
                       2};
  device_->copy(Stream::Compute, words, values, sizeof(values));
  device_->launch({*kernel, words, values, 2, 2, 1, 0, 0});
  ASSERT_TRUE(device_->synchronize().ok());
  EXPECT_THAT(std::vector<float>(out, out + 4),
              ::testing::ElementsAre(2, 3, 10, 11));
  EXPECT_THAT(
      device_->findHandTunedKernel("select_rows", 99).status().message(),
      HasSubstr("LLMC-E0802"));
}

// Devices of several ranks load and drop code in any order; a library must
// never be taken for another one.
TEST_P(DeviceSuite, LoadsCodeFromMemory) {
  for (int round = 0; round < 3; ++round)
    for (int value : {11, 22}) {
      auto other = GetParam()();
      std::string path = std::string(LLMRT_TEST_CODE_DIR) + "/libcode_object_" +
                         std::to_string(value) + ".so";
      auto file = MappedFile::open(path);
      ASSERT_TRUE(file.ok()) << file.status();
      Device& device = round == 1 ? *device_ : *other;
      auto code = device.loadCode(file->bytes());
      ASSERT_TRUE(code.ok()) << code.status();
      auto kernel = device.findKernel(*code, "writeValue");
      ASSERT_TRUE(kernel.ok()) << kernel.status();
      int* out = allocate<int>(5);
      uint64_t words[] = {5, reinterpret_cast<uint64_t>(out)};
      device.launch({*kernel, words, words, 5, 1, 1, 1, 0});
      ASSERT_TRUE(device.synchronize().ok());
      EXPECT_EQ(out[0], value);
      EXPECT_EQ(out[4], value);
      EXPECT_THAT(device.findKernel(*code, "nothing").status().message(),
                  HasSubstr("LLMC-E0802"));
    }
  std::vector<uint8_t> rubbish(100, 7);
  EXPECT_THAT(device_->loadCode(rubbish).status().message(),
              HasSubstr("LLMC-E0804"));
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

TEST_P(DeviceSuite, EventsHoldTheComputeStream) {
  std::atomic<int> value{0};
  TestCall slow([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    value = 1;
    return absl::OkStatus();
  });
  TestCall slower([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    value = 2;
    return absl::OkStatus();
  });
  EventId first = device_->createEvent();
  EventId second = device_->createEvent();
  device_->call(Stream::Communication, slow);
  device_->record(first, Stream::Communication);
  device_->call(Stream::Communication, slower);
  device_->record(second, Stream::Communication);
  EXPECT_EQ(value, 0); // enqueuing does not wait
  device_->wait(Stream::Compute, first);
  EXPECT_EQ(value, 1);
  EXPECT_GT(device_->waitSeconds(), 0.01);
  device_->wait(Stream::Compute, second);
  EXPECT_EQ(value, 2);
  device_->record(first, Stream::Compute);
  device_->wait(Stream::Communication, first);
  EXPECT_TRUE(device_->synchronize().ok());
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

TEST_P(DeviceSuite, LowersItsCodeLevel) {
  int best = device_->codeLevel();
  device_->limitCodeLevel(best + 1);
  EXPECT_EQ(device_->codeLevel(), best);
  device_->limitCodeLevel(0);
  EXPECT_EQ(device_->codeLevel(), 0);
  auto kernel = device_->findHandTunedKernel("linear", 1);
  EXPECT_EQ(device_->kernelAddress(*kernel),
            reinterpret_cast<uint64_t>(
                findKernel("linear", 1)->function(CpuLevel::Baseline)));
}

TEST_P(DeviceSuite, ChoosesTheBestCodeThatItRuns) {
  device_->limitCodeLevel(1);
  std::vector<CodeOption> options = {{"cpu", 2}, {"cpu", 0}};
  auto chosen = device_->chooseCode(options);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(*chosen, 1);
  options.pop_back();
  EXPECT_THAT(device_->chooseCode(options).status().message(),
              HasSubstr("LLMC-E0801"));
}

std::unique_ptr<Device> cpuOneThread() {
  return createCpuDevice({.numThreads = 1});
}

std::unique_ptr<Device> cpuThreeThreads() {
  return createCpuDevice({.numThreads = 3});
}

INSTANTIATE_TEST_SUITE_P(Cpu, DeviceSuite,
                         ::testing::Values(cpuOneThread, cpuThreeThreads));

} // namespace
} // namespace llmrt
