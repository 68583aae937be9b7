// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/MemoryBounds.h"

#include "runtime/base/Error.h"

namespace llmrt {

absl::Status checkMemoryBounds(const Rank& rank, int stage, int numThreads) {
  if (!rank.plan.memory())
    return absl::OkStatus();
  BytesByClass held = rank.device.bytesByClass();
  // Every thread of the cpu has scratch; on a GPU a launch has it as a whole.
  if (rank.device.sharesHostMemory())
    held[static_cast<int>(MemoryClass::Library)] /= numThreads;
  for (const fb::MemoryRow* row : *rank.plan.memory()) {
    auto memoryClass = static_cast<MemoryClass>(row->memory_class());
    if (row->stage() != stage || (memoryClass != MemoryClass::Code &&
                                  memoryClass != MemoryClass::Library))
      continue;
    int64_t bytes = held[static_cast<int>(memoryClass)];
    if (bytes > row->size_bytes() + kBufferAlignment) // scratch is rounded up
      return makeError(ErrorCode::MemoryBoundExceeded,
                       absl::StrCat(memoryClassName(memoryClass), " of rank ",
                                    rank.fabric.rank(), " would take ", bytes,
                                    " bytes, and the plan allows ",
                                    row->size_bytes()),
                       "compile the plan again with this version's llmc");
  }
  return absl::OkStatus();
}

} // namespace llmrt
