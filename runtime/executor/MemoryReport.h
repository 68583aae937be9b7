// SPDX-License-Identifier: Apache-2.0
// The memory of one rank by class: what the plan predicted and what is
// allocated.
#pragma once

#include "runtime/device/Device.h"

namespace llmrt {

struct MemoryReport {
  int64_t arenaBytes = 0; // allocated, exactly what the plan says
  BytesByClass planned{}; // the plan's memory table for this stage
  // With ExecutorOptions::checkMemory: what was touched of the arena so far, by
  // class, and the end of the highest byte.
  BytesByClass touched{};
  int64_t highestTouched = 0;
  BytesByClass
      outside{}; // held outside the arena: code, communicators, scratch

  /// Arena and all that lies outside of it.
  int64_t sumBytes() const {
    int64_t sum = arenaBytes;
    for (int64_t bytes : outside)
      sum += bytes;
    return sum;
  }
};

} // namespace llmrt
