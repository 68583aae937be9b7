// SPDX-License-Identifier: Apache-2.0
// How many threads a rank gets by default: its share of the CPUs that it may
// use.
#pragma once

#include "runtime/comm/Communicator.h"

#include <optional>

namespace llmrt {

/// Returns how many CPUs this process may use.
int numUsableCpus();

/// Returns `wanted` if there is one; else the CPUs of this process divided by
/// the processes of this host that may use any of them. Collective over the
/// processes of a job.
absl::StatusOr<int> agreeOnThreads(Communicator& all,
                                   std::optional<int> wanted);

} // namespace llmrt
