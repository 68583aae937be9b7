// SPDX-License-Identifier: Apache-2.0
// Who started this process: reads the variables that launchers set. It starts
// nothing and joins nothing.
#pragma once

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

#include <optional>
#include <string>

namespace llmrt {

enum class Launcher { None, OpenMpi, Slurm, Torchrun, SageMaker };

/// Returns "Open MPI", "torchrun", ...
const char* launcherName(Launcher launcher);

/// This process as its launcher sees it. Without a launcher: one rank of one.
struct LaunchInfo {
  Launcher kind = Launcher::None;
  int rank = 0;
  int localRank = 0;
  int worldSize = 1;
  std::string masterAddress; // of rank 0, as torchrun and SageMaker say it
  int masterPort = 0;

  /// True if MPI_Init joins this process to its peers.
  bool isMpi() const {
    return kind == Launcher::OpenMpi || kind == Launcher::Slurm;
  }
};

/// Looks a variable up; nullopt if it is not set.
using EnvironmentLookup =
    absl::FunctionRef<std::optional<std::string>(const char* name)>;

/// Recognises, in this order: Open MPI's mpirun; a Slurm step of several tasks
/// with PMI; torchrun; SageMaker's hosts.
/// Errors  LaunchContradiction if variables are incomplete, absurd or disagree.
absl::StatusOr<LaunchInfo> detectLaunch(EnvironmentLookup lookup);

/// The same from the environment of this process.
absl::StatusOr<LaunchInfo> detectLaunch();

/// Refuses what a CPU plan of `planRanks` ranks cannot run under: a launcher of
/// several processes that is not MPI (MpiLauncherNeeded), or another number of
/// processes (LaunchContradiction). Ok for one process: its ranks are threads
/// then.
absl::Status checkLaunchForCpu(const LaunchInfo& launch, int planRanks);

} // namespace llmrt
