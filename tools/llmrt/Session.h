// SPDX-License-Identifier: Apache-2.0
// A run of a plan: reads it, makes its ranks (threads of this process, or the
// processes of an MPI job), loads the weights, and lets rank 0 decide what is
// generated, or every rank train. What the commands of llmrt have in common; it
// parses no options and prints nothing.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/comm/Launch.h"
#include "runtime/executor/Executor.h"
#include "runtime/generation/Generation.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace llmrt {

struct SessionOptions {
  std::string planPath;
  std::vector<std::string> weights; // [SET=]PATH or [SET=]random:SEED
  std::optional<int> numThreads;    // of each rank; all cores over local ranks
  std::string comm = "auto";        // "local", "mpi"
  double timeoutSeconds = 300;
  SimulatedLink link;                 // between ranks that are threads
  std::optional<int64_t> chunkTokens; // what the plan was compiled for
  std::string graphs = "auto";        // "off": ExecutorOptions::usesGraphs
  std::string tuningCache;            // as tuningCachePath() takes it
  bool keepsTimeline = false;         // fills SessionEnd::timelines
  bool checksMemory = false;          // ExecutorOptions::checkMemory
  bool reportsMemory = false;         // fills SessionEnd::memory
  /// Runs on rank 0 before the ranks start; its error is an error of all of
  /// them.
  std::function<absl::Status()> prepareRankZero;
};

/// Seconds from the start of the process, for start-up times.
struct StartTimes {
  double planRead = 0;
  double weightsLoaded = 0;
};

/// What a rank held when it ended. Plain, so that ranks can exchange it.
struct RankMemory {
  MemoryReport report;
  // Anonymous resident memory of its process, which local ranks share: before
  // the plan was read, and the most since.
  int64_t baselineBytes = 0;
  int64_t peakBytes = 0;
};

/// What rank 0's body works with.
struct RankZero {
  const fb::Plan& plan;
  Generation& generation;
  Executor& executor;
  const char* comm;
  int numRanks;
  int threadsPerRank;
  StartTimes times;
};

/// Returns Finished or Interrupted for all ranks.
using RankZeroBody = std::function<absl::StatusOr<RunEnd>(RankZero&)>;

/// What each rank of a training run works with. Its weights are loaded.
struct RankContext {
  const fb::Plan& plan;
  Fabric& fabric;
  Executor& executor;
};

/// Runs on every rank; several are threads of one process.
using RankBody = std::function<absl::StatusOr<RunEnd>(RankContext&)>;

/// A plan file in memory.
struct LoadedPlan {
  MappedFile file;
  const fb::Plan* plan = nullptr;
};

struct SessionEnd {
  absl::StatusOr<RunEnd> how;
  /// Of the ranks that return the same error, this one prints it.
  bool isReporter = true;
  /// By rank; with MPI only this process's.
  std::vector<std::unique_ptr<Timeline>> timelines = {};
  LoadedPlan plan = {}; // whose texts the timelines name
  /// After a collective that timed out: what each rank was doing.
  std::vector<std::string> recorders = {};
  /// By rank, of all ranks; empty unless the run was to report it.
  std::vector<RankMemory> memory = {};
};

/// Errors  those of readPlan(); FileNotReadable.
absl::StatusOr<LoadedPlan> loadPlan(const std::string& path);

/// Errors  MeshMismatch unless the plan has as many ranks as the job processes.
absl::Status checkMeshSize(const fb::Plan& plan, int numProcesses);

/// Returns where the weights are: those of the options; for the set "model"
/// without one, the source that the plan names, relative to the plan. Errors
/// WeightsUnspecified, BadOptionValue.
absl::StatusOr<std::vector<WeightLocation>>
findWeights(const fb::Plan& plan, const SessionOptions& options);

/// Returns the value of a compile option as the plan keeps it, without quotes;
/// empty if it has none of that name.
std::string planOption(const fb::Plan& plan, std::string_view name);

/// Returns `path` if it is absolute, else as seen from the plan's folder.
std::string besidePlan(const std::string& planPath, const std::string& path);

/// Runs `body` on rank 0 and the other ranks beside it, to the end of all of
/// them.
SessionEnd runSession(const SessionOptions& options, const LaunchInfo& launch,
                      const RankZeroBody& body);

/// Runs `body` on every rank, without a generation.
SessionEnd runEveryRank(const SessionOptions& options, const LaunchInfo& launch,
                        const RankBody& body);

/// Returns the seconds since this process started.
double secondsSinceStart();

} // namespace llmrt
