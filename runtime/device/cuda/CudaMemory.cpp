// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cuda/CudaMemory.h"

#include "runtime/base/Error.h"
#include "runtime/device/cuda/CudaError.h"

#include <cstring>

namespace llmrt {
namespace {

constexpr int64_t kPageBytes = 4096;

absl::Status outOfMemory(MemoryClass memoryClass, int64_t sizeBytes) {
  size_t freeBytes = 0, totalBytes = 0;
  (void)cudaMemGetInfo(&freeBytes, &totalBytes);
  (void)cudaGetLastError(); // the failure is told here, and nowhere else
  return cudaStatus(cudaErrorMemoryAllocation,
                    absl::StrCat("cannot have ", sizeBytes >> 20, " MiB for ",
                                 memoryClassName(memoryClass), ", the GPU has ",
                                 freeBytes >> 20, " of ", totalBytes >> 20,
                                 " MiB free"));
}

} // namespace

CudaMemory::~CudaMemory() {
  for (const auto& [memory, block] : blocks_)
    free(block);
}

absl::StatusOr<void*> CudaMemory::allocate(MemorySpace space,
                                           MemoryClass memoryClass,
                                           int64_t sizeBytes,
                                           cudaStream_t stream) {
  if (space != MemorySpace::Device && space != MemorySpace::PinnedHost)
    return makeError(ErrorCode::DeviceUnsupported,
                     "the cuda device has no file memory space",
                     "compile without offload to files");
  if (sizeBytes == 0)
    return nullptr;
  // The library aligns small blocks to less than a page.
  const int64_t heldBytes = sizeBytes + kPageBytes - 1;
  void* base = nullptr;
  const cudaError_t result =
      space == MemorySpace::Device
          ? cudaMalloc(&base, heldBytes)
          : cudaHostAlloc(&base, heldBytes, cudaHostAllocPortable);
  if (result == cudaErrorMemoryAllocation)
    return outOfMemory(memoryClass, sizeBytes);
  LLMRT_RETURN_IF_ERROR(
      cudaStatus(result, absl::StrCat("allocating ", sizeBytes, " bytes for ",
                                      memoryClassName(memoryClass))));
  const Block block{base, space, memoryClass, sizeBytes};
  if (space == MemorySpace::Device) {
    absl::Status cleared =
        cudaStatus(cudaMemsetAsync(base, 0, heldBytes, stream), "clearing");
    if (cleared.ok())
      cleared = cudaStatus(cudaStreamSynchronize(stream), "clearing");
    if (!cleared.ok()) {
      free(block);
      return cleared;
    }
  } else {
    std::memset(base, 0, heldBytes);
  }
  const auto address = reinterpret_cast<uintptr_t>(base);
  void* memory = reinterpret_cast<void*>((address + kPageBytes - 1) /
                                         kPageBytes * kPageBytes);
  blocks_[memory] = block;
  count(memoryClass, sizeBytes);
  return memory;
}

void CudaMemory::release(void* memory) {
  auto found = blocks_.find(memory);
  if (found == blocks_.end())
    return;
  count(found->second.memoryClass, -found->second.sizeBytes);
  free(found->second);
  blocks_.erase(found);
}

// What an earlier command did wrong is told by the next synchronisation.
void CudaMemory::free(const Block& block) {
  if (block.space == MemorySpace::Device)
    (void)cudaFree(block.base);
  else
    (void)cudaFreeHost(block.base);
}

} // namespace llmrt
