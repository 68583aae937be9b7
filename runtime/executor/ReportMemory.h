// SPDX-License-Identifier: Apache-2.0
// Private to the executor: what a rank planned, allocated and touched.
#pragma once

#include "runtime/executor/MemoryReport.h"
#include "runtime/executor/Rank.h"

namespace llmrt {

/// stage  The rank's pipeline stage, as the plan's memory table numbers it.
MemoryReport reportMemory(const Rank& rank, int stage);

} // namespace llmrt
