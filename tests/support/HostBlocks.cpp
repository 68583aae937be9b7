// SPDX-License-Identifier: Apache-2.0
#include "tests/support/HostBlocks.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace llmrt::testing {
namespace {

/// Keeps the map's own nodes out of operator new.
template <typename T>
struct MallocAllocator {
  using value_type = T;

  MallocAllocator() = default;

  template <typename U>
  MallocAllocator(const MallocAllocator<U>&) {}

  T* allocate(size_t count) {
    void* memory = std::malloc(count * sizeof(T));
    if (!memory)
      throw std::bad_alloc();
    return static_cast<T*>(memory);
  }

  void deallocate(T* memory, size_t) { std::free(memory); }

  bool operator==(const MallocAllocator&) const { return true; }
};

using Sizes = std::map<uintptr_t, size_t, std::less<>,
                       MallocAllocator<std::pair<const uintptr_t, size_t>>>;

// Memory is given back after the ends of statics, so these have none.
std::mutex& mutex() {
  alignas(std::mutex) static unsigned char memory[sizeof(std::mutex)];
  static auto* made = ::new (memory) std::mutex();
  return *made;
}

Sizes& sizes() {
  alignas(Sizes) static unsigned char memory[sizeof(Sizes)];
  static auto* made = ::new (memory) Sizes();
  return *made;
}

void* allocate(size_t sizeBytes) {
  void* memory = std::malloc(sizeBytes ? sizeBytes : 1);
  if (!memory)
    throw std::bad_alloc();
  std::lock_guard<std::mutex> lock(mutex());
  sizes()[reinterpret_cast<uintptr_t>(memory)] = sizeBytes;
  return memory;
}

void release(void* memory) {
  if (!memory)
    return;
  {
    std::lock_guard<std::mutex> lock(mutex());
    sizes().erase(reinterpret_cast<uintptr_t>(memory));
  }
  std::free(memory);
}

} // namespace

HostBlock hostBlockOf(const void* address) {
  std::lock_guard<std::mutex> lock(mutex());
  const auto number = reinterpret_cast<uintptr_t>(address);
  auto next = sizes().upper_bound(number);
  if (next == sizes().begin())
    return {};
  const auto& [begin, sizeBytes] = *std::prev(next);
  if (number >= begin + sizeBytes)
    return {};
  return {reinterpret_cast<uint8_t*>(begin), sizeBytes};
}

} // namespace llmrt::testing

// The forms with an alignment are left alone: no vector uses them.
void* operator new(size_t sizeBytes) {
  return llmrt::testing::allocate(sizeBytes);
}

void* operator new[](size_t sizeBytes) {
  return llmrt::testing::allocate(sizeBytes);
}

void operator delete(void* memory) noexcept { llmrt::testing::release(memory); }

void operator delete[](void* memory) noexcept {
  llmrt::testing::release(memory);
}

void operator delete(void* memory, size_t) noexcept {
  llmrt::testing::release(memory);
}

void operator delete[](void* memory, size_t) noexcept {
  llmrt::testing::release(memory);
}
