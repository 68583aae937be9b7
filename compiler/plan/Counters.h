// SPDX-License-Identifier: Apache-2.0
// Static counters of a plan: bytes by memory class, kernels, FLOPs, bytes
// communicated.
#pragma once

#include "dialects/plan/Plan.h"

#include <string>
#include <vector>

namespace llmc {

/// Bytes of one memory class on a rank of a stage. For classes whose buffers
/// come and go, the most alive at one time.
struct MemoryCounter {
  std::string memoryClass;
  int64_t bytes = 0;
  int64_t paddingBytes = 0;
  bool isPeak = false; // a high-water mark, not a sum of persistent buffers
};

std::vector<MemoryCounter> countMemory(plan::StageOp stage);

/// Counters of one entry on one stage, for full rows.
struct ProgramCounter {
  int64_t launches = 0;
  double flops = 0;
  double bytesTouched = 0;
  std::vector<int64_t> axisBytes; // sent by one rank along each axis
};

ProgramCounter countProgram(mlir::ModuleOp module, plan::ProgramOp program,
                            const std::vector<std::string>& axes,
                            const std::vector<int64_t>& axisSizes);

} // namespace llmc
