// SPDX-License-Identifier: Apache-2.0
// Buffers that keep their contents between calls are known by class; inputs are
// written by the caller before the call.
#include "runtime/executor/Poison.h"

#include <algorithm>

namespace llmrt {
namespace {

bool isPersistent(fb::MemoryClass memoryClass) {
  switch (memoryClass) {
  case fb::MemoryClass::Parameters:
  case fb::MemoryClass::Caches:
  case fb::MemoryClass::Inputs:
  case fb::MemoryClass::Constants:
  case fb::MemoryClass::Gradients:
  case fb::MemoryClass::Optimizer:
    return true;
  default:
    return false;
  }
}

} // namespace

Poison::Poison(const Rank& rank) {
  if (!rank.stage.arenas())
    return;
  for (const fb::Arena* arena : *rank.stage.arenas()) {
    std::vector<std::pair<int64_t, int64_t>> alive; // [begin, end)
    for (unsigned i = 0;
         rank.stage.buffers() && i < rank.stage.buffers()->size(); ++i) {
      const fb::Buffer* buffer = rank.stage.buffers()->Get(i);
      if (buffer->space() == arena->space() &&
          isPersistent(buffer->memory_class()))
        alive.emplace_back(buffer->offset(),
                           buffer->offset() + buffer->size_bytes());
    }
    alive.emplace_back(arena->size_bytes(), arena->size_bytes());
    std::sort(alive.begin(), alive.end());
    uint8_t* base = rank.arenas[static_cast<int>(arena->space())];
    int64_t covered = 0;
    for (auto [begin, end] : alive) {
      begin = std::min((begin + 3) / 4 * 4, arena->size_bytes());
      if (begin > covered)
        ranges_.push_back({base + covered, begin - covered});
      covered = std::max(covered, (end + 3) / 4 * 4);
    }
  }
}

void Poison::fillDeadMemory(Device& device) const {
  for (const Range& range : ranges_)
    device.fill(Stream::Compute, range.data, kPattern, range.sizeBytes);
}

} // namespace llmrt
