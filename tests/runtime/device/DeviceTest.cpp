// SPDX-License-Identifier: Apache-2.0
// The cpu device: what every device must do, and what only its host memory and
// levels of code allow.
#include "tests/runtime/device/DeviceSuite.h"

#include "runtime/base/MappedFile.h"
#include "runtime/kernels/KernelRegistry.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

namespace llmrt {
namespace {

using testing::DeviceSuite;
using ::testing::HasSubstr;
using testing::TestCall;

class CpuDevice : public DeviceSuite {};

// Devices of several ranks load and drop code in any order; a library must
// never be taken for another one.
TEST_P(CpuDevice, LoadsCodeFromMemory) {
  for (int round = 0; round < 3; ++round)
    for (int value : {11, 22}) {
      auto other = GetParam()();
      std::string path =
          absl::StrCat(LLMRT_TEST_CODE_DIR, "/libcode_object_", value, ".so");
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

TEST_P(CpuDevice, EventsHoldTheComputeStream) {
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
  EXPECT_GT(device_->waitSeconds(), 0);
  device_->wait(Stream::Compute, second);
  EXPECT_EQ(value, 2);
  device_->record(first, Stream::Compute);
  device_->wait(Stream::Communication, first);
  EXPECT_TRUE(device_->synchronize().ok());
}

TEST_P(CpuDevice, LowersItsCodeLevel) {
  int best = device_->codeLevel();
  device_->limitCodeLevel(best + 1);
  EXPECT_EQ(device_->codeLevel(), best);
  device_->limitCodeLevel(0);
  EXPECT_EQ(device_->codeLevel(), 0);
  auto kernel = device_->findHandTunedKernel("linear", 2);
  EXPECT_EQ(device_->kernelAddress(*kernel),
            reinterpret_cast<uint64_t>(
                findKernel("linear", 2)->function(CpuLevel::Baseline)));
}

TEST_P(CpuDevice, ChoosesTheBestCodeThatItRuns) {
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

INSTANTIATE_TEST_SUITE_P(Cpu, CpuDevice,
                         ::testing::Values(cpuOneThread, cpuThreeThreads));

} // namespace

namespace testing {
INSTANTIATE_TEST_SUITE_P(Cpu, DeviceSuite,
                         ::testing::Values(cpuOneThread, cpuThreeThreads));
} // namespace testing

} // namespace llmrt
