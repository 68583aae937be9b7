// SPDX-License-Identifier: Apache-2.0
// Memory is promised only up to what the machine or its control group has:
// beyond it the kernel would end the process in the middle of a run.
#include "runtime/device/cpu/CpuMemory.h"

#include "runtime/base/Error.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sys/mman.h>
#include <sys/sysinfo.h>

namespace llmrt {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;

/// Bytes that all devices of this process hold: local ranks are threads.
std::atomic<int64_t> processBytes{0};

int64_t machineBytes() {
  static const int64_t limitBytes = [] {
    struct sysinfo info;
    int64_t bytes = INT64_MAX;
    if (sysinfo(&info) == 0)
      bytes = static_cast<int64_t>(info.totalram) * info.mem_unit;
    int64_t groupBytes;
    std::ifstream group("/sys/fs/cgroup/memory.max");
    if (group >> groupBytes && groupBytes > 0)
      bytes = std::min(bytes, groupBytes);
    return bytes;
  }();
  return limitBytes;
}

absl::Status outOfMemory(int64_t sizeBytes, MemoryClass memoryClass,
                         absl::string_view why) {
  return makeError(ErrorCode::OutOfMemory,
                   absl::StrCat("cannot have ", sizeBytes >> 20, " MiB for ",
                                memoryClassName(memoryClass), ": ", why),
                   "compile for more ranks, a smaller batch or a shorter "
                   "cache, or use a machine with more memory");
}

} // namespace

CpuMemory::~CpuMemory() {
  for (const auto& [memory, mapping] : mappings_)
    unmap(mapping);
}

absl::StatusOr<void*> CpuMemory::allocate(MemorySpace space,
                                          MemoryClass memoryClass,
                                          int64_t sizeBytes) {
  // All host memory is alike to the cpu.
  if (space != MemorySpace::Device && space != MemorySpace::PinnedHost)
    return makeError(ErrorCode::DeviceUnsupported,
                     "the cpu device has no file memory space",
                     "compile without offload to files");
  if (sizeBytes == 0)
    return nullptr;
  if (processBytes.fetch_add(sizeBytes) + sizeBytes > machineBytes()) {
    processBytes.fetch_sub(sizeBytes);
    return outOfMemory(sizeBytes, memoryClass,
                       absl::StrCat("this process holds ",
                                    processBytes.load() >> 20,
                                    " MiB and the machine has ",
                                    machineBytes() >> 20, " MiB"));
  }
  bool isHuge = sizeBytes >= kHugePageBytes;
  int64_t mappedBytes = (sizeBytes + kPageBytes - 1) / kPageBytes * kPageBytes +
                        (isHuge ? kHugePageBytes : 0);
  void* base = mmap(nullptr, mappedBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    int errnum = errno;
    processBytes.fetch_sub(sizeBytes);
    return outOfMemory(sizeBytes, memoryClass, std::strerror(errnum));
  }
  void* memory = base;
  if (isHuge) {
    uintptr_t aligned =
        (reinterpret_cast<uintptr_t>(base) + kHugePageBytes - 1) /
        kHugePageBytes * kHugePageBytes;
    memory = reinterpret_cast<void*>(aligned);
    // Advice: without huge pages everything works, 15 % slower. Only whole
    // ones, so that resident memory stays what was asked for.
    madvise(memory, sizeBytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
  }
  mappings_[memory] = {base, mappedBytes, sizeBytes, memoryClass};
  count(memoryClass, sizeBytes);
  return memory;
}

void CpuMemory::release(void* memory) {
  auto found = mappings_.find(memory);
  if (found == mappings_.end())
    return;
  count(found->second.memoryClass, -found->second.sizeBytes);
  unmap(found->second);
  mappings_.erase(found);
}

void CpuMemory::unmap(const Mapping& mapping) {
  munmap(mapping.base, mapping.mappedBytes);
  processBytes.fetch_sub(mapping.sizeBytes);
}

} // namespace llmrt
