// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/ReportMemory.h"

namespace llmrt {

MemoryReport reportMemory(const Rank& rank, int stage) {
  MemoryReport report;
  report.outside = rank.device.bytesByClass();
  if (rank.stage.arenas())
    for (const fb::Arena* arena : *rank.stage.arenas())
      report.arenaBytes += arena->size_bytes();
  if (rank.checked) {
    report.touched = rank.checked->touchedBytes();
    report.highestTouched = rank.checked->highestOffset();
  } else {
    report.outside[static_cast<int>(MemoryClass::Workspace)] -=
        report.arenaBytes;
  }
  if (rank.plan.memory())
    for (const fb::MemoryRow* row : *rank.plan.memory())
      if (row->stage() == stage)
        report.planned[static_cast<int>(row->memory_class())] +=
            row->size_bytes();
  return report;
}

} // namespace llmrt
