// SPDX-License-Identifier: Apache-2.0
// Runs a schedule on symbols instead of tensors, as stages with memory that see
// only their own list would. Independent of the checker and of the library's
// execution.
#pragma once

#include "compiler/schedule/Schedule.h"

#include <cstdint>
#include <vector>

namespace llmc::schedule::test {

enum class Threads { One, ComputeAndTransfer };

struct Outcome {
  bool hangs = false;
  /// A hash of the loss and for each global stage of the accumulated gradients,
  /// in which every value, its place and the order of additions count.
  std::vector<uint64_t> results;

  bool operator==(const Outcome&) const = default;
};

/// Runs to the end, or until nothing can move. A transfer is a rendezvous of
/// the two stages that carries what is in the slot, whatever either takes it
/// for. With two threads an action waits for earlier ones of its stage that
/// touch its slots (one of them writing). Whichever action can run may run
/// next: `seed` decides.
Outcome interpret(const Schedule& schedule, Threads threads, uint64_t seed);

} // namespace llmc::schedule::test
