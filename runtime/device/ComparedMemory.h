// SPDX-License-Identifier: Apache-2.0
// Guarded memory on a device that cannot trap an access: ordinary memory of it,
// filled with a pattern where it is closed. The host looks through copies into
// pinned memory, for which it waits until everything enqueued has run. For the
// back-ends; it enqueues on the compute stream.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/device/GuardedMemory.h"

namespace llmrt {

class ComparedMemory final : public GuardedMemory {
public:
  /// The device outlives it. Its bytes are in no class. Errors  those of
  /// Device::allocate() and of the device.
  static absl::StatusOr<std::unique_ptr<ComparedMemory>>
  create(Device& device, int64_t sizeBytes);
  ComparedMemory(const ComparedMemory&) = delete;
  ComparedMemory& operator=(const ComparedMemory&) = delete;
  ~ComparedMemory() override;

  uint8_t* data() const override { return data_; }

  int64_t pageBytes() const override { return kPageBytes; }

  bool trapsAccesses() const override { return false; }

  void open(int64_t offset, int64_t sizeBytes, uint32_t pattern) override;
  void close(int64_t offset, int64_t sizeBytes) override;
  const uint8_t* read(int64_t offset, int64_t sizeBytes) override;
  int64_t touchedBytes(int64_t offset, int64_t sizeBytes,
                       uint32_t pattern) override;

  absl::Status status() const override { return status_; }

private:
  static constexpr int64_t kPageBytes = 4096;

  explicit ComparedMemory(Device& device) : device_(device) {}

  absl::StatusOr<uint8_t*> allocate(MemorySpace space, int64_t sizeBytes);
  void release(uint8_t* memory, int64_t sizeBytes);
  void fill(int64_t offset, int64_t sizeBytes, uint32_t pattern);
  void settle();

  Device& device_;
  uint8_t* data_ = nullptr;
  int64_t sizeBytes_ = 0;
  uint8_t* seen_ = nullptr; // pinned: what was read
  absl::Status status_;
};

} // namespace llmrt
