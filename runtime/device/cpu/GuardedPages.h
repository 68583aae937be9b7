// SPDX-License-Identifier: Apache-2.0
// Private to the cpu device: guarded memory by mprotect and a handler of
// SIGSEGV, which is installed with the first of it.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/device/GuardedMemory.h"

#include <atomic>

namespace llmrt {

class GuardedPages final : public GuardedMemory {
public:
  /// Errors  OutOfMemory.
  static absl::StatusOr<std::unique_ptr<GuardedPages>>
  create(int64_t sizeBytes);
  ~GuardedPages() override;

  uint8_t* data() const override { return data_; }

  int64_t pageBytes() const override { return kPageBytes; }

  bool trapsAccesses() const override { return true; }

  void open(int64_t offset, int64_t sizeBytes, uint32_t pattern) override;
  void close(int64_t offset, int64_t sizeBytes) override;

  const uint8_t* read(int64_t offset, int64_t) override {
    return data_ + offset;
  }

  int64_t touchedBytes(int64_t offset, int64_t sizeBytes,
                       uint32_t pattern) override;
  void setMark(Stream stream, int64_t mark) override;
  std::optional<AccessFault> takeFault() override;

  /// Records the fault and opens its page; false if the address is not here.
  /// Safe in a signal handler.
  bool handle(const void* address, bool isWrite);

private:
  static constexpr int64_t kPageBytes = 4096;

  GuardedPages(uint8_t* data, int64_t sizeBytes)
      : data_(data), sizeBytes_(sizeBytes) {}

  /// Whole pages of the memory.
  struct Pages {
    uint8_t* begin;
    int64_t sizeBytes;
  };

  enum FaultState : int { None, Writing, Ready };

  Pages pagesOf(int64_t offset, int64_t sizeBytes) const;

  uint8_t* data_;
  int64_t sizeBytes_;
  std::atomic<int64_t> marks_[kNumStreams]{-1, -1};
  std::atomic<int> faultState_{None};
  AccessFault fault_{};
};

} // namespace llmrt
