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

/// Whether a buffer holds something only inside one program, so that others may
/// lie at the same place before and after.
bool isTransient(const fb::Buffer& buffer);

/// Whether all commands of a program belong to the communication stream: the
/// schedule orders it with the others by the slots that they share.
bool isTransfer(const fb::Program& program);

/// A transient buffer is used by commands `first` to `last` of a program. An
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
