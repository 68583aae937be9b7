// SPDX-License-Identifier: Apache-2.0
// What every device must do, whether or not the host reads its memory. A
// back-end instantiates it.
#pragma once

#include "runtime/device/Device.h"

#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <vector>

namespace llmrt::testing {

/// Null, after a failure, where there is no such device.
using MakeDevice = std::unique_ptr<Device> (*)();

class DeviceSuite : public ::testing::TestWithParam<MakeDevice> {
protected:
  void SetUp() override {
    device_ = GetParam()();
    ASSERT_NE(device_, nullptr);
  }

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

  /// Memory of the device with these values, once the compute stream is there.
  template <typename T>
  T* upload(const std::vector<T>& values) {
    T* memory = allocate<T>(values.size());
    device_->copy(Stream::Compute, memory, values.data(),
                  values.size() * sizeof(T));
    return memory;
  }

  /// Waits for the device.
  template <typename T>
  std::vector<T> download(const T* memory, int64_t count) {
    std::vector<T> values(count);
    device_->copy(Stream::Compute, values.data(), memory, count * sizeof(T));
    absl::Status status = device_->synchronize();
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }

  std::unique_ptr<Device> device_;
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceSuite);

/// A call that does what it is given.
class TestCall final : public StreamCall {
public:
  explicit TestCall(std::function<absl::Status()> body)
      : body_(std::move(body)) {}

  absl::Status run() override { return body_(); }

private:
  std::function<absl::Status()> body_;
};

} // namespace llmrt::testing
