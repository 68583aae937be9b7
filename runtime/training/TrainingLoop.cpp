// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/TrainingLoop.h"

#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"
#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/checkpoint/RankGroup.h"
#include "runtime/training/StepInputs.h"

#include "absl/strings/match.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>

namespace llmrt {
namespace {

constexpr size_t kHyperparameters = 16;

bool isMissing(const absl::Status& status) {
  return absl::StrContains(status.message(),
                           errorCodeName(ErrorCode::CheckpointNotFound));
}

/// What the ranks of a run must have in common, and no step would notice: with
/// other rates weights drift apart, with another seed samples repeat.
std::string describeCommon(const TrainingSettings& settings) {
  const OptimizerSettings& o = settings.optimizer;
  const PreferenceSettings& p = settings.preference;
  std::string text = absl::StrCat(o.beta1, " ", o.beta2, " ", o.epsilon, " ",
                                  o.weightDecay, " ", o.clip);
  absl::StrAppend(&text, " ", p.beta, " ", p.labelSmoothing, " ",
                  settings.totalSteps, " ", settings.saveEvery, " ",
                  settings.evaluateEvery, " ", settings.heldOut.size());
  absl::StrAppend(
      &text, " ", settings.isResumed, " ", settings.mostSkippedInRow, " ",
      settings.checkpointFolder.empty(), " ", settings.identity.seed, " ",
      settings.identity.data, " ", settings.identity.reference.contents);
  for (int64_t part = 0; part <= 8; ++part)
    absl::StrAppend(&text, " ",
                    settings.schedule.at(settings.totalSteps * part / 8));
  return text;
}

absl::Status checkSameOptions(const TrainingSettings& settings,
                              Communicator* all) {
  const uint64_t mine[] = {crc64(describeCommon(settings))};
  LLMRT_ASSIGN_OR_RETURN(std::vector<uint64_t> ranks,
                         RankGroup(all).allGather(mine, "options"));
  for (size_t rank = 1; rank < ranks.size(); ++rank)
    if (ranks[rank] != ranks[0])
      return makeError(ErrorCode::ControlRecordMismatch,
                       absl::StrCat("rank ", rank,
                                    " has other options of training, data or "
                                    "reference weights than rank 0"),
                       "start all ranks with the same command");
  return absl::OkStatus();
}

} // namespace

absl::StatusOr<std::unique_ptr<TrainingLoop>>
TrainingLoop::create(const fb::Plan& plan, Executor& executor, Fabric& fabric,
                     const BatchSource& data, const TrainingSettings& settings,
                     TrainingObserver& observer) {
  std::unique_ptr<TrainingLoop> loop(
      new TrainingLoop(plan, executor, data, settings, observer));
  LLMRT_RETURN_IF_ERROR(loop->prepare(fabric));
  return loop;
}

absl::Status TrainingLoop::prepare(Fabric& fabric) {
  rank_ = fabric.rank();
  if (fabric.size() > 1) {
    std::vector<int> everyone(fabric.size());
    std::iota(everyone.begin(), everyone.end(), 0);
    LLMRT_ASSIGN_OR_RETURN(all_, fabric.createCommunicator(everyone));
  }
  LLMRT_RETURN_IF_ERROR(checkSameOptions(settings_, all_.get()));
  settings_.identity.sequencesPerEpoch = data_.numSequences();
  LLMRT_ASSIGN_OR_RETURN(place_, placeOfRank(plan_, rank_, data_.numRows()));
  return checkStepInputs(plan_, place_, executor_);
}

absl::StatusOr<TrainingEnd> TrainingLoop::run() {
  LLMRT_RETURN_IF_ERROR(begin());
  if (at_.step == 0) {
    LLMRT_ASSIGN_OR_RETURN(bool isStopped, evaluateAll());
    if (isStopped)
      return TrainingEnd::Stopped;
  }
  while (at_.step < settings_.totalSteps) {
    auto started = std::chrono::steady_clock::now();
    LLMRT_ASSIGN_OR_RETURN(StepOutcome outcome, runStep());
    std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - started;
    LLMRT_RETURN_IF_ERROR(takeOutcome(outcome, elapsed.count()));
    bool isLast = at_.step >= settings_.totalSteps;
    bool isDue = settings_.saveEvery > 0 && at_.step % settings_.saveEvery == 0;
    if (isLast || isDue || outcome.isStopWanted)
      LLMRT_RETURN_IF_ERROR(save());
    bool isStopped = outcome.isStopWanted;
    if (!isStopped && isEvaluationDue(isLast)) {
      LLMRT_ASSIGN_OR_RETURN(isStopped, evaluateAll());
      if (isStopped)
        LLMRT_RETURN_IF_ERROR(save());
    }
    if (isStopped && !isLast)
      return TrainingEnd::Stopped;
  }
  return TrainingEnd::Finished;
}

absl::Status TrainingLoop::begin() {
  std::optional<ResumeReport> resumed;
  if (settings_.isResumed) {
    LLMRT_ASSIGN_OR_RETURN(resumed, resume());
  } else if (!settings_.checkpointFolder.empty() && rank_ == 0) {
    std::vector<int64_t> steps =
        listCheckpointSteps(settings_.checkpointFolder);
    if (!steps.empty())
      return makeError(ErrorCode::CheckpointFolderUsed,
                       absl::StrCat(settings_.checkpointFolder,
                                    " already holds checkpoints, the newest ",
                                    checkpointName(steps.back())),
                       "add --resume to continue that run, or name another "
                       "folder");
  }
  return rank_ == 0 ? observer_.begin(resumed) : absl::OkStatus();
}

absl::StatusOr<ResumeReport> TrainingLoop::resume() {
  ResumeReport report;
  absl::StatusOr<FoundCheckpoint> found =
      findNewestCheckpoint(settings_.checkpointFolder, all_.get());
  if (!found.ok() && isMissing(found.status()))
    return report;
  LLMRT_RETURN_IF_ERROR(found.status());
  LLMRT_ASSIGN_OR_RETURN(
      at_, loadTraining(found->path, settings_.identity, tensors_, all_.get()));
  guard_ = NonFiniteGuard(settings_.mostSkippedInRow, at_.skipped);
  savedStep_ = at_.step;
  report.path = found->path;
  report.position = at_;
  report.messages = found->messages;
  return report;
}

// The schedule counts steps, skipped ones too, so that it ends with the run.
double TrainingLoop::learningRate() const {
  return settings_.schedule.at(at_.step);
}

absl::StatusOr<StepOutcome> TrainingLoop::runStep() {
  place_.position = at_.sequences;
  LLMRT_RETURN_IF_ERROR(
      fillStepInputs(data_, settings_.preference.reference, place_, executor_));
  fillHyper(learningRate());
  LLMRT_RETURN_IF_ERROR(executor_.executeStep(&statistics_));
  LLMRT_ASSIGN_OR_RETURN(StepRecord record, recordOfStep());
  return agreeOnStep(record, all_.get());
}

bool TrainingLoop::isEvaluationDue(bool isLast) const {
  int64_t every = settings_.evaluateEvery;
  return isLast || (every > 0 && at_.step % every == 0);
}

/// Returns whether a rank was asked to stop meanwhile.
absl::StatusOr<bool> TrainingLoop::evaluateAll() {
  RankGroup group(all_.get());
  auto isStopped = [&]() -> absl::StatusOr<bool> {
    const uint64_t mine[] = {observer_.isStopRequested()};
    LLMRT_ASSIGN_OR_RETURN(std::vector<uint64_t> all,
                           group.allGather(mine, "evaluation"));
    return std::any_of(all.begin(), all.end(), [](uint64_t x) { return x; });
  };
  fillHyper(learningRate());
  for (const HeldOutData& heldOut : settings_.heldOut) {
    LLMRT_ASSIGN_OR_RETURN(std::optional<EvaluationReport> report,
                           evaluate(heldOut, place_, executor_, isStopped));
    if (!report)
      return true;
    report->step = at_.step;
    if (rank_ == 0)
      LLMRT_RETURN_IF_ERROR(observer_.takeEvaluation(*report));
  }
  return false;
}

void TrainingLoop::fillHyper(double learningRate) {
  absl::Span<uint8_t> input = executor_.stepInput("hyper");
  if (input.size() < kHyperparameters * sizeof(float))
    return;
  const OptimizerSettings& o = settings_.optimizer;
  auto t = static_cast<double>(at_.updates + 1);
  const double values[kHyperparameters] = {learningRate,
                                           o.beta1,
                                           o.beta2,
                                           o.epsilon,
                                           o.weightDecay,
                                           1 - std::pow(o.beta1, t),
                                           1 - std::pow(o.beta2, t),
                                           o.clip,
                                           settings_.preference.beta,
                                           settings_.preference.labelSmoothing,
                                           1 - o.beta1,
                                           1 - o.beta2};
  auto* hyper = reinterpret_cast<float*>(input.data());
  for (size_t i = 0; i < kHyperparameters; ++i)
    hyper[i] = static_cast<float>(values[i]);
}

absl::StatusOr<StepRecord> TrainingLoop::recordOfStep() {
  StepRecord record;
  record.step = at_.step;
  record.wantsStop = observer_.isStopRequested();
  if (auto loss = stepNumber(executor_, "loss")) {
    record.hasLoss = 1;
    record.loss = *loss;
  }
  if (auto count = stepNumber(executor_, "count")) {
    record.hasCount = 1;
    record.count = *count;
  }
  if (auto norm = stepNumber(executor_, "norm")) {
    record.hasNorm = 1;
    record.norm = *norm;
    record.isFinite = stepNumber(executor_, "norm", 2).value_or(1);
    if (record.isFinite == 0) {
      LLMRT_ASSIGN_OR_RETURN(record.nonFiniteTensor,
                             tensors_.findNonFiniteGradient());
    }
  }
  return record;
}

absl::Status TrainingLoop::takeOutcome(const StepOutcome& outcome,
                                       double seconds) {
  StepReport report;
  report.learningRate = learningRate();
  report.loss = outcome.loss;
  report.gradientNorm = outcome.norm;
  report.numTokens = place_.batch * plan_.cache_tokens();
  report.numCounted = outcome.numCounted;
  report.seconds = seconds;
  report.communicationSeconds = statistics_.communicationSeconds;
  report.exposedSeconds = statistics_.waitSeconds;
  report.isSkipped = !outcome.isUpdated;
  report.preference = preferenceOfStep(executor_);
  ++at_.step;
  at_.sequences += place_.batch;
  at_.updates += outcome.isUpdated;
  at_.skipped += !outcome.isUpdated;
  at_.tokens += outcome.numCounted;
  report.step = at_.step;
  report.after = at_;
  report.epoch = data_.epoch(at_.sequences);
  if (rank_ == 0)
    LLMRT_RETURN_IF_ERROR(observer_.takeStep(report));
  if (outcome.isUpdated) {
    guard_.addGoodStep();
    return absl::OkStatus();
  }
  return guard_.addSkippedStep(
      at_.step, outcome.nonFiniteTensor < 0
                    ? ""
                    : tensors_.tensors()[outcome.nonFiniteTensor].parameter);
}

absl::Status TrainingLoop::save() {
  if (settings_.checkpointFolder.empty() || savedStep_ == at_.step)
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(CheckpointResult saved,
                         saveTraining(plan_, tensors_,
                                      {.folder = settings_.checkpointFolder,
                                       .keep = settings_.keep,
                                       .position = at_,
                                       .identity = &settings_.identity},
                                      all_.get()));
  savedStep_ = at_.step;
  return rank_ == 0 ? observer_.takeSave(saved, at_.step) : absl::OkStatus();
}

} // namespace llmrt
