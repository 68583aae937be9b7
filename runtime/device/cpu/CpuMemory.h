// SPDX-License-Identifier: Apache-2.0
// Private to the cpu device: anonymous memory in huge pages, counted by class.
#pragma once

#include "runtime/device/Device.h"

#include <map>

namespace llmrt {

class CpuMemory {
public:
  CpuMemory() = default;
  ~CpuMemory();
  CpuMemory(const CpuMemory&) = delete;
  CpuMemory& operator=(const CpuMemory&) = delete;

  absl::StatusOr<void*> allocate(MemorySpace space, MemoryClass memoryClass,
                                 int64_t sizeBytes);
  void release(void* memory);

  void count(MemoryClass memoryClass, int64_t sizeBytes) {
    bytes_[static_cast<int>(memoryClass)] += sizeBytes;
  }

  const BytesByClass& bytes() const { return bytes_; }

private:
  struct Mapping {
    void* base;
    int64_t mappedBytes;
    int64_t sizeBytes;
    MemoryClass memoryClass;
  };

  void unmap(const Mapping& mapping);

  std::map<void*, Mapping> mappings_;
  BytesByClass bytes_{};
};

} // namespace llmrt
