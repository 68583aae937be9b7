// SPDX-License-Identifier: Apache-2.0
// Private to the executor: when the commands of a plan use each buffer, read
// from the plan itself and not from what the compiler thought. For the check of
// memory.
#pragma once

#include "runtime/plan/PlanFile.h"

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

#include <vector>

namespace llmrt {

/// Calls `use` for each buffer that a command names, perhaps more than once.
void forEachBuffer(const fb::Command& command,
                   absl::FunctionRef<void(int buffer)> use);

/// How long a buffer holds something.
enum class Lifespan {
  Program, // inside one program: others may lie at the same place otherwise
  Call,    // from the first to the last program of a step that names it
  Stays,   // or is a slot, or belongs to the caller
};

/// Returns the lifespans of a stage's buffers. What programs pass on inside a
/// training step is known by its being named in several of them.
std::vector<Lifespan> lifespansOf(const fb::Stage& stage);

/// Whether all commands of a program belong to the communication stream: the
/// schedule orders it with the others by the slots that they share.
bool isTransfer(const fb::Program& program);

/// A buffer of one program is used by its commands `first` to `last`. An
/// asynchronous collective uses its buffers until the compute stream has waited
/// for it; `last` is the number of commands if it never does.
struct Lifetime {
  int buffer;
  int64_t first;
  int64_t last;
};

std::vector<Lifetime> lifetimesOf(const fb::Program& program,
                                  const fb::Stage& stage);

/// Checks that buffers in use together lie apart, that a transfer is waited for
/// before the compute stream names what it writes, and that every transfer is.
/// `describe` names a command by its number. Errors  MemoryMisuse.
absl::Status
checkLifetimes(const fb::Program& program, const fb::Stage& stage,
               absl::FunctionRef<std::string(int64_t command)> describe);

} // namespace llmrt
