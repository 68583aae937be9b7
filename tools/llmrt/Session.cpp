// SPDX-License-Identifier: Apache-2.0
// Every rank does the same: prepare, load, follow rank 0. A rank that fails
// aborts the fabric, so that the others end too; they then return
// CollectiveAborted, which only repeats what the first one says.
#include "tools/llmrt/Session.h"

#include "runtime/base/Error.h"
#include "runtime/base/ResidentMemory.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/RankFabrics.h"
#include "tools/llmrt/RankThreads.h"
#include "tools/llmrt/TuningCachePath.h"

#include "absl/strings/match.h"

#include <chrono>
#include <cstring>
#include <filesystem>
#include <future>
#include <numeric>
#include <thread>

namespace llmrt {
namespace {

const std::chrono::steady_clock::time_point kStart =
    std::chrono::steady_clock::now();

constexpr absl::string_view kModelSet = "model";

// Each has threads and buffers of its own; more than this is a cluster's plan.
constexpr int kMostLocalRanks = 256;

constexpr CollectiveTag kMemoryTag{-1, "all_gather", "memory report", "llmrt"};

/// What the ranks do: one of the two.
struct Bodies {
  const RankZeroBody* rankZero = nullptr; // generates, the others follow
  const RankBody* everyRank = nullptr;
};

struct RankTask {
  const fb::Plan& plan;
  const SessionOptions& options;
  std::vector<WeightLocation> weights;
  int numThreads;
  const Bodies& bodies;
  StartTimes times;
  int gpu = 0; // of a cuda plan
};

/// What a rank leaves behind beside its outcome.
struct RankRecord {
  std::unique_ptr<Timeline> timeline;
  std::string recorder;
  MemoryReport memory;
};

bool hasCode(const absl::Status& status, ErrorCode code) {
  return absl::StartsWith(status.message(), errorCodeName(code));
}

absl::StatusOr<RunEnd> runOnRank(const RankTask& task, Fabric& fabric,
                                 Executor& executor, RankRecord& record) {
  LLMRT_RETURN_IF_ERROR(executor.initialise());
  if (task.bodies.everyRank) {
    RankContext context{task.plan, fabric, executor};
    return (*task.bodies.everyRank)(context);
  }
  GenerationOptions options;
  options.chunkTokens = task.options.chunkTokens.value_or(0);
  LLMRT_ASSIGN_OR_RETURN(
      std::unique_ptr<Generation> generation,
      Generation::create(task.plan, executor, fabric, options));
  if (fabric.rank() != 0)
    return generation->follow();
  RankZero rankZero{task.plan,     *generation,     executor,  fabric.name(),
                    fabric.size(), task.numThreads, task.times};
  rankZero.times.weightsLoaded = secondsSinceStart();
  LLMRT_ASSIGN_OR_RETURN(RunEnd how, (*task.bodies.rankZero)(rankZero));
  LLMRT_RETURN_IF_ERROR(generation->end(how));
  return how;
}

absl::StatusOr<RunEnd> runRankToTheEnd(const RankTask& task, Fabric& fabric,
                                       RankRecord& record) {
  ExecutorOptions executorOptions;
  executorOptions.numThreads = task.numThreads;
  executorOptions.gpu = task.gpu;
  executorOptions.weights = task.weights;
  executorOptions.checkMemory = task.options.checksMemory;
  executorOptions.keepTimeline = task.options.keepsTimeline;
  executorOptions.usesGraphs = task.options.graphs != "off";
  executorOptions.tuningCache = tuningCachePath(task.options.tuningCache);
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor,
                         Executor::create(task.plan, fabric, executorOptions));
  absl::StatusOr<RunEnd> how = runOnRank(task, fabric, *executor, record);
  if (!how.ok() && hasCode(how.status(), ErrorCode::CollectiveTimeout))
    record.recorder = executor->recorderDump();
  record.memory = executor->memory();
  record.timeline = executor->takeTimeline();
  return how;
}

/// Returns the abort of another rank, or ok if none comes in the time that this
/// rank gives the ranks before it. What is wrong with a plan or its weights is
/// mostly wrong on every rank, and only the first shall say so.
absl::Status awaitEarlierAbort(Fabric& fabric) {
  constexpr auto kStep = std::chrono::milliseconds(5);
  auto wait = std::min<std::chrono::milliseconds>(
      fabric.rank() * std::chrono::milliseconds(50), std::chrono::seconds(1));
  for (auto waited = kStep; waited <= wait; waited += kStep) {
    if (absl::Status status = fabric.abortStatus(); !status.ok())
      return status;
    std::this_thread::sleep_for(kStep);
  }
  return absl::OkStatus();
}

absl::StatusOr<RunEnd> runRank(const RankTask& task, Fabric& fabric,
                               RankRecord& record) {
  absl::StatusOr<RunEnd> how = runRankToTheEnd(task, fabric, record);
  if (how.ok())
    return how;
  absl::Status heard = awaitEarlierAbort(fabric);
  fabric.abort(how.status());
  return heard.ok() ? how : heard;
}

void keepRecords(std::vector<RankRecord>& records, SessionEnd& end) {
  for (RankRecord& record : records) {
    if (record.timeline)
      end.timelines.push_back(std::move(record.timeline));
    if (!record.recorder.empty())
      end.recorders.push_back(std::move(record.recorder));
  }
}

SessionEnd runThreads(RankTask task) {
  int size = numRanks(task.plan);
  std::optional<ResidentMonitor> monitor;
  if (task.options.reportsMemory)
    monitor.emplace();
  FabricOptions fabricOptions;
  fabricOptions.timeoutSeconds = task.options.timeoutSeconds;
  fabricOptions.threadsPerRank = task.numThreads;
  fabricOptions.link = task.options.link;
  SessionEnd end{absl::UnknownError("")};
  auto made = createThreadFabrics(task.plan, task.gpu, fabricOptions);
  if (!made.ok()) {
    end.how = made.status();
    return end;
  }
  std::vector<std::unique_ptr<Fabric>> fabrics = *std::move(made);
  std::vector<RankRecord> records(size);
  std::vector<absl::StatusOr<RunEnd>> outcomes(size, RunEnd::Finished);
  std::vector<std::thread> threads;
  for (int rank = 1; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      outcomes[rank] = runRank(task, *fabrics[rank], records[rank]);
    });
  outcomes[0] = runRank(task, *fabrics[0], records[0]);
  for (std::thread& thread : threads)
    thread.join();
  keepRecords(records, end);
  if (monitor)
    for (const RankRecord& record : records)
      end.memory.push_back(
          {record.memory, monitor->baselineBytes(), monitor->peakBytes()});
  end.how = outcomes[0];
  // The cause, not its echo on another rank.
  for (const absl::StatusOr<RunEnd>& outcome : outcomes)
    if (!outcome.ok() &&
        (end.how.ok() ||
         hasCode(end.how.status(), ErrorCode::CollectiveAborted)))
      end.how = outcome;
  return end;
}

/// Runs `prepare` on rank 0. The others wait for as long as it takes: rank 0
/// tells them again and again that it is at work, so that no collective exceeds
/// its time limit.
absl::Status prepareOnRankZero(Communicator& all,
                               const std::function<absl::Status()>& prepare) {
  constexpr CollectiveTag kTag{-1, "broadcast", "preparation of rank 0",
                               "llmrt"};
  constexpr auto kBeat = std::chrono::milliseconds(200);
  std::future<absl::Status> done;
  if (all.rank() == 0)
    done = std::async(std::launch::async, prepare);
  int32_t isDone = 0;
  absl::Status status;
  while (isDone == 0 && status.ok()) {
    if (all.rank() == 0)
      isDone = done.wait_for(kBeat) == std::future_status::ready;
    if (all.size() > 1)
      status = all.broadcast(&isDone, sizeof(isDone), 0, kTag);
  }
  return all.rank() == 0 && status.ok() ? done.get() : status;
}

/// Whether this process prints the error: rank 0 what all ranks know, the rank
/// at fault what it alone knows.
bool isReporterOf(const absl::Status& status, int rank) {
  if (hasCode(status, ErrorCode::CollectiveAborted))
    return false;
  if (hasCode(status, ErrorCode::CollectiveTimeout))
    return rank == 0 ||
           absl::StrContains(status.message(), "rank 0 did not come");
  return true;
}

SessionEnd runProcess(const SessionOptions& options, const LaunchInfo& launch,
                      const Bodies& bodies) {
  SessionEnd end{absl::UnknownError(""), launch.rank == 0};
  if (options.link.bytesPerSecond > 0 || options.link.latencySeconds > 0) {
    end.how = makeError(ErrorCode::OptionsContradict,
                        "--simulated-link and --simulated-latency with ranks "
                        "that are processes",
                        "use --comm=local");
    return end;
  }
  std::vector<RankRecord> records(1);
  FabricOptions fabricOptions;
  fabricOptions.timeoutSeconds = options.timeoutSeconds;
  absl::StatusOr<std::unique_ptr<Fabric>> fabric =
      createMpiFabric(fabricOptions);
  if (!fabric.ok()) {
    end.how = fabric.status();
    return end;
  }
  std::optional<ResidentMonitor> monitor;
  if (options.reportsMemory)
    monitor.emplace();
  std::vector<int> ranks((*fabric)->size());
  std::iota(ranks.begin(), ranks.end(), 0);
  absl::StatusOr<std::unique_ptr<Communicator>> all =
      (*fabric)->createCommunicator(ranks);
  if (!all.ok()) {
    end.how = all.status();
    return end;
  }
  LoadedPlan plan;
  std::vector<WeightLocation> weights;
  absl::Status own = [&]() -> absl::Status {
    LLMRT_ASSIGN_OR_RETURN(plan, loadPlan(options.planPath));
    LLMRT_RETURN_IF_ERROR(checkMeshSize(*plan.plan, (*fabric)->size()));
    LLMRT_ASSIGN_OR_RETURN(weights, findWeights(*plan.plan, options));
    watchForInterrupt();
    return absl::OkStatus();
  }();
  if (options.prepareRankZero) {
    absl::Status prepared = prepareOnRankZero(
        **all, [&] { return own.ok() ? options.prepareRankZero() : own; });
    if (own.ok())
      own = prepared;
  }
  absl::Status ready = agreeOnReadiness(**all, own);
  absl::StatusOr<int> threads = ready.ok()
                                    ? agreeOnThreads(**all, options.numThreads)
                                    : absl::StatusOr<int>(ready);
  if (!threads.ok()) {
    end.how = threads.status();
    end.isReporter = (*fabric)->rank() == 0;
    return end;
  }
  RankTask task{*plan.plan, options, weights, *threads, bodies, {}};
  task.gpu = launch.localRank;
  task.times.planRead = secondsSinceStart();
  absl::StatusOr<std::unique_ptr<Fabric>> gpus =
      joinGpus(*plan.plan, launch, **fabric, **all, fabricOptions);
  if (!gpus.ok()) {
    end.how = gpus.status();
    end.isReporter = (*fabric)->rank() == 0;
    return end;
  }
  end.how = runRank(task, *gpus ? **gpus : **fabric, records[0]);
  keepRecords(records, end);
  if (monitor && end.how.ok()) {
    RankMemory own{records[0].memory, monitor->baselineBytes(),
                   monitor->peakBytes()};
    end.memory.resize((*fabric)->size());
    absl::Status gathered =
        (*all)->allGather(&own, end.memory.data(), sizeof(own), kMemoryTag);
    if (!gathered.ok())
      end.how = gathered;
  }
  end.plan = std::move(plan);
  end.isReporter =
      end.how.ok() || isReporterOf(end.how.status(), (*fabric)->rank());
  return end;
}

/// A parameter without a set belongs to "model".
bool isWeightSet(const fb::Plan& plan, absl::string_view name) {
  for (const fb::Stage* stage : *plan.stages()) {
    if (!stage->parameters())
      continue;
    for (const fb::Parameter* parameter : *stage->parameters()) {
      const auto* set = parameter->weight_set();
      absl::string_view setName =
          set && set->size() > 0 ? absl::string_view(set->data(), set->size())
                                 : kModelSet;
      if (setName == name)
        return true;
    }
  }
  return false;
}

} // namespace

double secondsSinceStart() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                       kStart)
      .count();
}

absl::StatusOr<LoadedPlan> loadPlan(const std::string& path) {
  LoadedPlan loaded;
  LLMRT_ASSIGN_OR_RETURN(loaded.file, MappedFile::open(path));
  LLMRT_ASSIGN_OR_RETURN(loaded.plan, readPlan(loaded.file.bytes()));
  return loaded;
}

std::string besidePlan(const std::string& planPath, const std::string& path) {
  // An absolute right side replaces the left one.
  return (std::filesystem::path(planPath).parent_path() / path).string();
}

absl::Status checkMeshSize(const fb::Plan& plan, int numProcesses) {
  if (numRanks(plan) == numProcesses)
    return absl::OkStatus();
  return makeError(ErrorCode::MeshMismatch,
                   absl::StrCat("this plan is for ", numRanks(plan),
                                " ranks, and the job has ", numProcesses,
                                " processes"),
                   absl::StrCat("start it with mpirun -n ", numRanks(plan),
                                ", or with no launcher at all"));
}

// The plan carries the compile options as text: objective = "sft", seq = 512.
std::string planOption(const fb::Plan& plan, std::string_view name) {
  std::string options = plan.options() ? plan.options()->str() : "";
  std::string key = std::string(name) + " = ";
  size_t at = options.find(key);
  while (at != std::string::npos && at > 0 && options[at - 1] != ' ' &&
         options[at - 1] != '{')
    at = options.find(key, at + 1);
  if (at == std::string::npos)
    return "";
  std::string value = options.substr(at + key.size());
  bool isText = !value.empty() && value[0] == '"';
  return isText ? value.substr(1, value.find('"', 1) - 1)
                : value.substr(0, value.find_first_of(" ,}"));
}

absl::StatusOr<std::vector<WeightLocation>>
findWeights(const fb::Plan& plan, const SessionOptions& options) {
  // Such a plan loads the reference only to compute its losses.
  bool isPrecomputed = planOption(plan, "reference") == "precompute";
  std::vector<WeightLocation> locations;
  for (const std::string& text : options.weights) {
    WeightLocation location{"model", text};
    size_t equals = text.find('=');
    if (equals != std::string::npos &&
        (text.substr(0, equals) == "model" ||
         (isPrecomputed && text.substr(0, equals) == "reference") ||
         isWeightSet(plan, text.substr(0, equals))))
      location = {text.substr(0, equals), text.substr(equals + 1)};
    if (location.path.empty())
      return makeError(ErrorCode::BadOptionValue,
                       absl::StrCat("--weights=", text, " names no file"),
                       "write --weights=[SET=]PATH or random:SEED");
    for (const WeightLocation& other : locations)
      if (other.set == location.set)
        return makeError(ErrorCode::OptionsContradict,
                         absl::StrCat("--weights is given twice for the set '",
                                      location.set, "'"),
                         "give each set one place");
    locations.push_back(location);
  }
  auto has = [&](absl::string_view set) {
    return std::any_of(
        locations.begin(), locations.end(),
        [&](const WeightLocation& location) { return location.set == set; });
  };
  // A reference model is what the model is at first, unless it is named.
  auto complete = [&] {
    if (isWeightSet(plan, "reference") && !has("reference"))
      for (const WeightLocation& location : locations)
        if (location.set == "model") {
          locations.push_back({"reference", location.path});
          break;
        }
    return locations;
  };
  if (has("model") || !isWeightSet(plan, "model"))
    return complete();
  std::string source = plan.model() && plan.model()->source()
                           ? plan.model()->source()->str()
                           : "";
  if (source.empty())
    return makeError(ErrorCode::WeightsUnspecified,
                     "the plan names no checkpoint",
                     "add --weights=PATH, or --weights=random:SEED");
  locations.push_back({"model", besidePlan(options.planPath, source)});
  return complete();
}

namespace {

SessionEnd runBodies(const SessionOptions& options, const LaunchInfo& launch,
                     const Bodies& bodies) {
  if (options.comm == "mpi" || (options.comm == "auto" && launch.isMpi()))
    return runProcess(options, launch, bodies);
  auto fail = [&](const absl::Status& status) {
    return SessionEnd{status, launch.rank == 0};
  };
  if (options.comm == "local" && launch.worldSize > 1)
    return fail(makeError(ErrorCode::OptionsContradict,
                          absl::StrCat("--comm=local under a launcher of ",
                                       launch.worldSize, " processes"),
                          "start llmrt without the launcher"));
  absl::StatusOr<LoadedPlan> plan = loadPlan(options.planPath);
  if (!plan.ok())
    return fail(plan.status());
  if (options.comm == "auto")
    if (auto status = checkLaunchForCpu(launch, numRanks(*plan->plan));
        !status.ok())
      return fail(status);
  if (int ranks = numRanks(*plan->plan); ranks > kMostLocalRanks)
    return fail(makeError(ErrorCode::MeshMismatch,
                          absl::StrCat("this plan is for ", ranks,
                                       " ranks, and one process runs at most ",
                                       kMostLocalRanks, " as threads"),
                          absl::StrCat("start it with mpirun -n ", ranks)));
  absl::StatusOr<std::vector<WeightLocation>> weights =
      findWeights(*plan->plan, options);
  if (!weights.ok())
    return fail(weights.status());
  if (options.prepareRankZero)
    if (auto status = options.prepareRankZero(); !status.ok())
      return fail(status);
  const int threads = options.numThreads.value_or(
      std::max(1, numUsableCpus() / numRanks(*plan->plan)));
  RankTask task{*plan->plan, options, *weights, threads, bodies, {}};
  task.times.planRead = secondsSinceStart();
  SessionEnd end = runThreads(std::move(task));
  end.plan = *std::move(plan);
  return end;
}

} // namespace

SessionEnd runSession(const SessionOptions& options, const LaunchInfo& launch,
                      const RankZeroBody& body) {
  return runBodies(options, launch, {.rankZero = &body});
}

SessionEnd runEveryRank(const SessionOptions& options, const LaunchInfo& launch,
                        const RankBody& body) {
  return runBodies(options, launch, {.everyRank = &body});
}

} // namespace llmrt
