// SPDX-License-Identifier: Apache-2.0
// The memory of one rank by class: what the plan predicted and what is
// allocated.
#pragma once

#include "runtime/device/Device.h"

namespace llmrt {

struct MemoryReport {
  int64_t arenaBytes = 0; // allocated, exactly what the plan says
  BytesByClass planned{}; // the plan's memory table for this stage
  BytesByClass
      outside{}; // held outside the arena: code, communicators, scratch
};

} // namespace llmrt
