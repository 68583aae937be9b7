// SPDX-License-Identifier: Apache-2.0
// Private to the executor: what a prepared rank may hold outside its arenas.
#pragma once

#include "runtime/executor/Rank.h"

namespace llmrt {

/// Compares what the device counts with the bounds in the plan's memory table:
/// of code with its argument blocks, and of kernel scratch, for one thread. A
/// plan without these rows bounds nothing. Errors  MemoryBoundExceeded.
absl::Status checkMemoryBounds(const Rank& rank, int stage, int numThreads);

} // namespace llmrt
