// SPDX-License-Identifier: Apache-2.0
// llmrt run with a plan for training. What rank 0 reads and checks comes before
// the weights are loaded, so that mistakes show at once.
#include "runtime/base/Error.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/MemoryReportFile.h"
#include "tools/llmrt/ReferenceModel.h"
#include "tools/llmrt/Trace.h"
#include "tools/llmrt/TrainingData.h"
#include "tools/llmrt/TrainingReporter.h"
#include "tools/llmrt/WeightIdentity.h"

#include <filesystem>
#include <list>

namespace llmrt {
namespace {

absl::Status checkOptions(const RunOptions& options, const fb::Plan& plan) {
  if (!options.inferenceOption.empty())
    return makeError(ErrorCode::PlanModeUnsupported,
                     absl::StrCat(options.inferenceOption,
                                  " belongs to generating text, and this plan "
                                  "is for --mode=train"),
                     "leave it out, or compile the model with --mode=infer");
  if (options.training.data.empty())
    return makeError(ErrorCode::DataUnspecified,
                     "this plan trains a model, and no data are given",
                     "add --data=TRAIN.jsonl; to generate text compile the "
                     "model with --mode=infer");
  if (options.sampling.seed < 0)
    return makeError(ErrorCode::BadOptionValue,
                     absl::StrCat("--seed=", options.sampling.seed),
                     "give a whole number, 0 or more");
  if (!options.training.preferenceOption.empty() &&
      planOption(plan, "objective") != "dpo")
    return makeError(ErrorCode::OptionsContradict,
                     absl::StrCat(options.training.preferenceOption,
                                  " with a plan that has no preference loss"),
                     "leave it out, or compile with --objective=dpo");
  return absl::OkStatus();
}

/// Where export finds config.json and the tokenizer again.
std::string sourceFolder(const fb::Plan& plan, const SessionOptions& session) {
  std::string source;
  absl::StatusOr<std::vector<WeightLocation>> weights =
      findWeights(plan, session);
  if (weights.ok())
    for (const WeightLocation& location : *weights)
      if (location.set == "model" && location.path.rfind("random:", 0) != 0)
        source = location.path;
  if (source.empty() && plan.model() && plan.model()->source())
    source = besidePlan(session.planPath, plan.model()->source()->str());
  if (source.empty())
    return "";
  std::error_code error;
  std::filesystem::path full = std::filesystem::absolute(source, error);
  return error ? source : full.lexically_normal().string();
}

/// The frozen model of preference optimisation; empty for other objectives.
ReferenceIdentity referenceOf(const fb::Plan& plan,
                              const SessionOptions& session) {
  if (planOption(plan, "objective") != "dpo")
    return {};
  absl::StatusOr<std::vector<WeightLocation>> weights =
      findWeights(plan, session);
  if (!weights.ok()) // the session says so
    return {};
  std::string path = referencePathOf(*weights);
  return {path, sampleWeights(path)};
}

/// config.json of a model whose source has none.
std::string configOf(const fb::Plan& plan) {
  return plan.model() && plan.model()->config() ? plan.model()->config()->str()
                                                : "";
}

std::string tokenizerOf(const fb::Plan& plan, const RunOptions& options) {
  std::string path = options.tokenizer;
  if (path.empty() && plan.model() && plan.model()->tokenizer() &&
      plan.model()->tokenizer()->size() > 0)
    path =
        besidePlan(options.session.planPath, plan.model()->tokenizer()->str());
  if (path.empty())
    return "";
  std::error_code error;
  std::filesystem::path full = std::filesystem::absolute(path, error);
  return error ? path : full.lexically_normal().string();
}

/// One process's part of a run.
class Training {
public:
  explicit Training(const RunOptions& options)
      : options_(options), data_(options) {}

  absl::Status prepare() {
    watchForInterrupt();
    LLMRT_ASSIGN_OR_RETURN(LoadedPlan plan,
                           loadPlan(options_.session.planPath));
    LLMRT_RETURN_IF_ERROR(checkOptions(options_, *plan.plan));
    LLMRT_RETURN_IF_ERROR(checkTrainingOptions(options_.training));
    LLMRT_RETURN_IF_ERROR(data_.build(*plan.plan));
    LLMRT_ASSIGN_OR_RETURN(OpenedData data,
                           data_.open(*plan.plan, data_.trainingSet(), false));
    return settingsOf(*plan.plan, data).status();
  }

  absl::StatusOr<RunEnd> runRank(RankContext& rank) {
    LLMRT_ASSIGN_OR_RETURN(OpenedData data,
                           data_.open(rank.plan, data_.trainingSet(), false));
    LLMRT_ASSIGN_OR_RETURN(TrainingSettings settings,
                           settingsOf(rank.plan, data));
    LLMRT_ASSIGN_OR_RETURN(std::vector<DataSet> sets,
                           heldOutSets(options_.training.evaluationData));
    std::list<OpenedData> heldOut; // of the settings
    for (const DataSet& set : sets) {
      LLMRT_ASSIGN_OR_RETURN(OpenedData opened,
                             data_.open(rank.plan, set, true));
      heldOut.push_back(std::move(opened));
      settings.heldOut.push_back({set.name, &heldOut.back().source});
    }
    ReferenceModel reference(rank, options_);
    LLMRT_ASSIGN_OR_RETURN(OpenedData inOrder,
                           data_.open(rank.plan, data_.trainingSet(), true));
    LLMRT_ASSIGN_OR_RETURN(settings.preference.reference,
                           reference.lossesOf(inOrder));
    for (size_t i = 0; OpenedData & opened : heldOut) {
      LLMRT_ASSIGN_OR_RETURN(settings.heldOut[i++].reference,
                             reference.lossesOf(opened));
    }
    LLMRT_RETURN_IF_ERROR(reference.restoreWeights());
    TrainingReporter reporter(
        {.metricsPath = options_.training.metricsPath,
         .tensorBoardFolder = options_.training.tensorBoardFolder,
         .totalSteps = settings.totalSteps,
         .isQuiet = options_.isQuiet});
    LLMRT_ASSIGN_OR_RETURN(
        auto loop, TrainingLoop::create(rank.plan, rank.executor, rank.fabric,
                                        data.source, settings, reporter));
    LLMRT_ASSIGN_OR_RETURN(TrainingEnd end, loop->run());
    if (rank.fabric.rank() == 0)
      reporter.finish(end, settings.checkpointFolder);
    return end == TrainingEnd::Stopped ? RunEnd::Interrupted : RunEnd::Finished;
  }

private:
  absl::StatusOr<TrainingSettings> settingsOf(const fb::Plan& plan,
                                              const OpenedData& data) const {
    const TrainingRunOptions& o = options_.training;
    int64_t steps = o.numSteps.value_or(data.source.numSteps(plan.batch()));
    LLMRT_ASSIGN_OR_RETURN(LearningRateSchedule schedule,
                           makeSchedule(o, steps));
    return TrainingSettings{
        .optimizer = o.optimizer,
        .preference = o.preference,
        .schedule = schedule,
        .totalSteps = steps,
        .mostSkippedInRow = o.mostSkippedSteps,
        .identity = {.seed = static_cast<uint64_t>(options_.sampling.seed),
                     .data = data.fingerprint,
                     .source = sourceFolder(plan, options_.session),
                     .config = configOf(plan),
                     .tokenizer = tokenizerOf(plan, options_),
                     .commandLine = options_.commandLine,
                     .reference = referenceOf(plan, options_.session)},
        .checkpointFolder = o.checkpointFolder,
        .saveEvery = o.saveEvery,
        .keep = o.keep,
        .isResumed = o.isResumed,
        .evaluateEvery = o.evaluateEvery};
  }

  const RunOptions& options_;
  TrainingData data_;
};

} // namespace

CommandEnd trainCommand(const RunOptions& options, const LaunchInfo& launch) {
  Training training(options);
  SessionOptions session = options.session;
  session.keepsTimeline = !options.tracePath.empty();
  session.reportsMemory = !options.memoryReportPath.empty();
  session.prepareRankZero = [&] { return training.prepare(); };
  SessionEnd end = runEveryRank(session, launch, [&](RankContext& rank) {
    return training.runRank(rank);
  });
  // The same command goes on, from a checkpoint or from the beginning.
  const int interruptedStatus = options.training.checkpointFolder.empty()
                                    ? kInterruptedStatus
                                    : kSavedStatus;
  // While data were tokenised, or a reference model computed its losses.
  if (absl::IsCancelled(end.how.status()))
    return {absl::OkStatus(), true, end.isReporter, {}, interruptedStatus};
  if (!end.how.ok())
    return {end.how.status(), false, end.isReporter, end.recorders};
  if (auto status = writeTrace(options.tracePath, launch, end); !status.ok())
    return {status};
  if (auto status = writeMemoryReport(options.memoryReportPath, launch, end);
      !status.ok())
    return {status};
  CommandEnd result{absl::OkStatus(), *end.how == RunEnd::Interrupted};
  result.interruptedStatus = interruptedStatus;
  return result;
}

} // namespace llmrt
