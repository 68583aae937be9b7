// SPDX-License-Identifier: Apache-2.0
// What happens when ranks fail: run in process over `local`, and as whole jobs
// over `mpi`, because a failure ends an MPI job.
#pragma once

#include "runtime/comm/Communicator.h"

#include <string>
#include <vector>

namespace llmrt::testing {

struct FailureCase {
  const char* name;
  int numRanks;
  const char* expected; // a part of what every rank that is left returns
};

/// The cases that every back-end must pass.
const std::vector<FailureCase>& failureCases();

/// The time limit of the cases that wait for it.
inline constexpr double kCaseTimeoutSeconds = 0.4;

/// Plays the part of this rank; returns what its communicator said.
absl::Status playFailureCase(Fabric& fabric, const std::string& name);

} // namespace llmrt::testing
