// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/Launch.h"

#include "runtime/base/Error.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace llmrt {
namespace {

absl::Status contradiction(const std::string& what) {
  return makeError(ErrorCode::LaunchContradiction, what,
                   "unset the variables of the launcher that is not in use");
}

/// Reads a variable as a number that is not negative; nullopt if it is not set.
absl::StatusOr<std::optional<int>> readCount(EnvironmentLookup lookup,
                                             const char* name) {
  std::optional<std::string> text = lookup(name);
  if (!text)
    return std::optional<int>();
  int value = 0;
  if (!absl::SimpleAtoi(*text, &value) || value < 0)
    return contradiction(
        absl::StrFormat("%s is not a number: \"%s\"", name, *text));
  return std::optional<int>(value);
}

/// SageMaker names no port; its hosts may reach each other on all.
constexpr int kSageMakerPort = 29500;

struct RankNames {
  Launcher kind;
  const char* rank;
  const char* size;
  const char* localRank;
};

constexpr RankNames kOpenMpi = {Launcher::OpenMpi, "OMPI_COMM_WORLD_RANK",
                                "OMPI_COMM_WORLD_SIZE",
                                "OMPI_COMM_WORLD_LOCAL_RANK"};
constexpr RankNames kSlurm = {Launcher::Slurm, "SLURM_PROCID", "SLURM_NTASKS",
                              "SLURM_LOCALID"};
constexpr RankNames kTorchrun = {Launcher::Torchrun, "RANK", "WORLD_SIZE",
                                 "LOCAL_RANK"};

/// Returns nullopt unless rank and size are both set.
absl::StatusOr<std::optional<LaunchInfo>> readRanks(EnvironmentLookup lookup,
                                                    const RankNames& names) {
  LLMRT_ASSIGN_OR_RETURN(std::optional<int> rank,
                         readCount(lookup, names.rank));
  LLMRT_ASSIGN_OR_RETURN(std::optional<int> size,
                         readCount(lookup, names.size));
  LLMRT_ASSIGN_OR_RETURN(std::optional<int> localRank,
                         readCount(lookup, names.localRank));
  if (!rank && !size)
    return std::optional<LaunchInfo>();
  if (!rank || !size)
    return contradiction(absl::StrFormat("%s is set without %s",
                                         rank ? names.rank : names.size,
                                         rank ? names.size : names.rank));
  if (*rank >= *size)
    return contradiction(absl::StrFormat("%s=%d is not below %s=%d", names.rank,
                                         *rank, names.size, *size));
  if (localRank.value_or(0) > *rank)
    return contradiction(absl::StrFormat("%s=%d is above %s=%d",
                                         names.localRank, *localRank,
                                         names.rank, *rank));
  LaunchInfo launch;
  launch.kind = names.kind;
  launch.rank = *rank;
  launch.worldSize = *size;
  launch.localRank = localRank.value_or(0);
  return std::optional<LaunchInfo>(launch);
}

/// A Slurm allocation sets these variables in batch scripts and shells too;
/// only a step with PMI has peers that MPI_Init finds.
absl::StatusOr<std::optional<LaunchInfo>> readSlurm(EnvironmentLookup lookup) {
  bool hasPmi = lookup("PMIX_RANK") || lookup("PMI_RANK") || lookup("PMI_FD");
  if (!hasPmi || !lookup(kSlurm.rank) || !lookup(kSlurm.size))
    return std::optional<LaunchInfo>();
  absl::StatusOr<std::optional<LaunchInfo>> launch = readRanks(lookup, kSlurm);
  if (launch.ok() && (*launch)->worldSize <= 1)
    return std::optional<LaunchInfo>();
  return launch;
}

absl::StatusOr<std::optional<LaunchInfo>>
readTorchrun(EnvironmentLookup lookup) {
  // Job scripts set single ones of these names for their own use; torchrun sets
  // all.
  if (!lookup(kTorchrun.rank) || !lookup(kTorchrun.size))
    return std::optional<LaunchInfo>();
  LLMRT_ASSIGN_OR_RETURN(std::optional<LaunchInfo> launch,
                         readRanks(lookup, kTorchrun));
  LLMRT_ASSIGN_OR_RETURN(std::optional<int> port,
                         readCount(lookup, "MASTER_PORT"));
  launch->masterAddress = lookup("MASTER_ADDR").value_or("");
  launch->masterPort = port.value_or(0);
  if (launch->worldSize > 1 && (launch->masterAddress.empty() || !port))
    return contradiction("RANK and WORLD_SIZE are set without MASTER_ADDR and "
                         "MASTER_PORT");
  return launch;
}

/// SM_HOSTS is a JSON list of names: ["algo-1","algo-2"]; one process for each
/// host.
absl::StatusOr<std::optional<LaunchInfo>>
readSageMaker(EnvironmentLookup lookup) {
  std::optional<std::string> hosts = lookup("SM_HOSTS");
  std::optional<std::string> current = lookup("SM_CURRENT_HOST");
  if (!hosts && !current)
    return std::optional<LaunchInfo>();
  if (!hosts || !current)
    return contradiction("only one of SM_HOSTS and SM_CURRENT_HOST is set");
  absl::string_view list = *hosts;
  if (!absl::ConsumePrefix(&list, "[") || !absl::ConsumeSuffix(&list, "]"))
    return contradiction("SM_HOSTS is not a list: " + *hosts);
  std::vector<std::string> names;
  for (absl::string_view name : absl::StrSplit(list, ',')) {
    name = absl::StripAsciiWhitespace(name);
    absl::ConsumePrefix(&name, "\"");
    absl::ConsumeSuffix(&name, "\"");
    names.emplace_back(name);
  }
  auto place = std::find(names.begin(), names.end(), *current);
  if (place == names.end())
    return contradiction(absl::StrFormat(
        "SM_CURRENT_HOST=%s is not in SM_HOSTS=%s", *current, *hosts));
  LaunchInfo launch;
  launch.kind = Launcher::SageMaker;
  launch.rank = static_cast<int>(place - names.begin());
  launch.worldSize = static_cast<int>(names.size());
  launch.masterAddress = names.front();
  launch.masterPort = kSageMakerPort;
  return std::optional<LaunchInfo>(launch);
}

} // namespace

const char* launcherName(Launcher launcher) {
  switch (launcher) {
  case Launcher::None:
    return "no launcher";
  case Launcher::OpenMpi:
    return "Open MPI";
  case Launcher::Slurm:
    return "Slurm";
  case Launcher::Torchrun:
    return "torchrun";
  case Launcher::SageMaker:
    return "SageMaker";
  }
  return "";
}

absl::StatusOr<LaunchInfo> detectLaunch(EnvironmentLookup lookup) {
  LLMRT_ASSIGN_OR_RETURN(std::optional<LaunchInfo> openMpi,
                         readRanks(lookup, kOpenMpi));
  LLMRT_ASSIGN_OR_RETURN(std::optional<LaunchInfo> slurm, readSlurm(lookup));
  LLMRT_ASSIGN_OR_RETURN(std::optional<LaunchInfo> torchrun,
                         readTorchrun(lookup));
  // Wrappers set torchrun's names under MPI too; then they must say the same.
  const std::optional<LaunchInfo>& mpi = openMpi ? openMpi : slurm;
  if (mpi && torchrun) {
    if (mpi->rank != torchrun->rank || mpi->worldSize != torchrun->worldSize)
      return contradiction(absl::StrFormat(
          "%s says rank %d of %d, but RANK and WORLD_SIZE say %d of %d",
          launcherName(mpi->kind), mpi->rank, mpi->worldSize, torchrun->rank,
          torchrun->worldSize));
    LaunchInfo launch = *mpi;
    launch.masterAddress = torchrun->masterAddress;
    launch.masterPort = torchrun->masterPort;
    return launch;
  }
  if (mpi)
    return *mpi;
  if (torchrun)
    return *torchrun;
  LLMRT_ASSIGN_OR_RETURN(std::optional<LaunchInfo> sageMaker,
                         readSageMaker(lookup));
  return sageMaker.value_or(LaunchInfo());
}

absl::StatusOr<LaunchInfo> detectLaunch() {
  return detectLaunch([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (!value)
      return std::nullopt;
    return std::string(value);
  });
}

absl::Status checkLaunchForCpu(const LaunchInfo& launch, int planRanks) {
  if (launch.worldSize == 1)
    return absl::OkStatus();
  if (!launch.isMpi())
    return makeError(
        ErrorCode::MpiLauncherNeeded,
        absl::StrFormat("a plan for cpu was started as %d processes by %s, "
                        "which CPU ranks cannot communicate through",
                        launch.worldSize, launcherName(launch.kind)),
        absl::StrFormat("start it with an MPI launcher: mpirun -n %d llmrt run "
                        "..., or srun --mpi=pmix",
                        planRanks));
  if (launch.worldSize != planRanks)
    return makeError(
        ErrorCode::LaunchContradiction,
        absl::StrFormat("the plan has %d ranks, but %s started %d processes",
                        planRanks, launcherName(launch.kind), launch.worldSize),
        absl::StrFormat("start %d processes, or one, whose ranks are threads",
                        planRanks));
  return absl::OkStatus();
}

} // namespace llmrt
