// SPDX-License-Identifier: Apache-2.0
// Private to the cuda device: its memory and the host's pinned memory, counted
// by class.
#pragma once

#include "runtime/device/Device.h"

#include <cuda_runtime_api.h>
#include <unordered_map>

namespace llmrt {

class CudaMemory {
public:
  CudaMemory() = default;
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;
  ~CudaMemory();

  /// As Device::allocate(); cleared on `stream`, for which it waits.
  absl::StatusOr<void*> allocate(MemorySpace space, MemoryClass memoryClass,
                                 int64_t sizeBytes, cudaStream_t stream);
  void release(void* memory);

  void count(MemoryClass memoryClass, int64_t sizeBytes) {
    bytes_[static_cast<int>(memoryClass)] += sizeBytes;
  }

  const BytesByClass& bytes() const { return bytes_; }

private:
  struct Block {
    void* base;
    MemorySpace space;
    MemoryClass memoryClass;
    int64_t sizeBytes;
  };

  static void free(const Block& block);

  std::unordered_map<void*, Block> blocks_; // by the address given out
  BytesByClass bytes_{};
};

} // namespace llmrt
