// SPDX-License-Identifier: Apache-2.0
// Private to the executor: what preparing a command needs to know of this rank.
#pragma once

#include "runtime/comm/FlightRecorder.h"
#include "runtime/device/Device.h"
#include "runtime/executor/CheckedMemory.h"
#include "runtime/executor/Communicators.h"
#include "runtime/executor/Timeline.h"
#include "runtime/plan/Mesh.h"

#include <algorithm>
#include <array>
#include <vector>

namespace llmrt {

/// The slots that one action of a schedule works on, by SlotKind; -1: none.
struct Slots {
  std::array<int, 8> byKind{-1, -1, -1, -1, -1, -1, -1, -1};
};

struct Rank {
  const fb::Plan& plan;
  const fb::Stage& stage;
  Fabric& fabric;
  Device& device;
  std::vector<int> coordinates;
  Communicators communicators;
  std::vector<KernelId> kernels;    // by number in the plan
  std::array<uint8_t*, 3> arenas{}; // by MemorySpace
  FlightRecorder computeRecorder;
  FlightRecorder
      communicationRecorder;       // written by the thread that communicates
  double communicationSeconds = 0; // in collectives; by that thread too

  std::unique_ptr<CheckedMemory> checked; // instead of the arenas; else null
  std::unique_ptr<Timeline> timeline;     // null unless asked for

  uint8_t* address(int buffer) const {
    if (checked)
      return checked->address(buffer, 0);
    const fb::Buffer* b = stage.buffers()->Get(buffer);
    return arenas[static_cast<int>(b->space())] + b->offset();
  }

  /// Address of the slot of a buffer; of the buffer if it has none.
  uint8_t* address(int buffer, const Slots& slots) const {
    const fb::Buffer* b = stage.buffers()->Get(buffer);
    int slot = slots.byKind[static_cast<int>(b->slot_kind())];
    if (checked)
      return checked->address(buffer, slot);
    return address(buffer) +
           std::max(slot, 0) * (b->size_bytes() / std::max(b->slots(), 1));
  }

  int64_t sizeBytes(int buffer) const {
    return stage.buffers()->Get(buffer)->size_bytes();
  }
};

} // namespace llmrt
