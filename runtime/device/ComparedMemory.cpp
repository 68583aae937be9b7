// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/ComparedMemory.h"

#include "runtime/base/Error.h"

#include <algorithm>

namespace llmrt {
namespace {

/// As which it is allocated; it is counted there no longer then.
constexpr MemoryClass kClass = MemoryClass::Workspace;

} // namespace

absl::StatusOr<std::unique_ptr<ComparedMemory>>
ComparedMemory::create(Device& device, int64_t sizeBytes) {
  std::unique_ptr<ComparedMemory> made(new ComparedMemory(device));
  LLMRT_ASSIGN_OR_RETURN(
      made->seen_, made->allocate(MemorySpace::PinnedHost, kMostReadBytes));
  LLMRT_ASSIGN_OR_RETURN(made->data_,
                         made->allocate(MemorySpace::Device, sizeBytes));
  made->sizeBytes_ = sizeBytes;
  made->close(0, sizeBytes);
  made->settle();
  LLMRT_RETURN_IF_ERROR(made->status_);
  return made;
}

ComparedMemory::~ComparedMemory() {
  release(data_, sizeBytes_);
  release(seen_, kMostReadBytes);
}

absl::StatusOr<uint8_t*> ComparedMemory::allocate(MemorySpace space,
                                                  int64_t sizeBytes) {
  LLMRT_ASSIGN_OR_RETURN(void* memory,
                         device_.allocate(space, kClass, sizeBytes));
  device_.countBytes(kClass, -sizeBytes);
  return static_cast<uint8_t*>(memory);
}

void ComparedMemory::release(uint8_t* memory, int64_t sizeBytes) {
  if (!memory)
    return;
  device_.countBytes(kClass, sizeBytes);
  device_.release(memory);
}

// What is closed holds kPattern already.
void ComparedMemory::open(int64_t offset, int64_t sizeBytes, uint32_t pattern) {
  if (pattern == kPattern)
    return;
  const int64_t wholeBytes = sizeBytes / 4 * 4;
  fill(offset, wholeBytes, pattern);
  if (status_.ok())
    device_.copy(Stream::Compute, data_ + offset + wholeBytes, &pattern,
                 sizeBytes - wholeBytes);
  settle(); // the communication stream may be next
}

// The last word whole: behind it lies what is closed.
void ComparedMemory::close(int64_t offset, int64_t sizeBytes) {
  fill(offset, (sizeBytes + 3) / 4 * 4, kPattern);
}

const uint8_t* ComparedMemory::read(int64_t offset, int64_t sizeBytes) {
  settle();
  if (status_.ok()) {
    device_.copy(Stream::Compute, seen_, data_ + offset, sizeBytes);
    settle();
  }
  if (!status_.ok()) // then that is the error, and no other
    for (int64_t i = 0; i < sizeBytes; ++i)
      seen_[i] = kPattern >> (8 * ((offset + i) & 3));
  return seen_;
}

int64_t ComparedMemory::touchedBytes(int64_t offset, int64_t sizeBytes,
                                     uint32_t pattern) {
  int64_t end = endOfOther(offset, offset + sizeBytes, pattern) - offset;
  return std::min((end + 3) / 4 * 4, sizeBytes);
}

void ComparedMemory::fill(int64_t offset, int64_t sizeBytes, uint32_t pattern) {
  if (status_.ok())
    device_.fill(Stream::Compute, data_ + offset, pattern, sizeBytes);
}

/// Waits for both streams.
void ComparedMemory::settle() {
  if (status_.ok())
    status_ = device_.synchronize();
}

} // namespace llmrt
