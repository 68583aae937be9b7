// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TrainingReporter.h"

#include "runtime/base/Error.h"
#include "runtime/base/Logging.h"
#include "tools/llmrt/Interrupt.h"

#include "absl/strings/str_format.h"

#include <cmath>
#include <cstdio>

namespace llmrt {
namespace {

constexpr double kTerminalSeconds = 0.2;
constexpr double kLineSeconds = 10;

/// Names as TRL logs them.
std::vector<Scalar>
preferenceScalars(const std::optional<PreferenceReport>& report) {
  if (!report)
    return {};
  return {{"rewards/chosen", report->chosenReward},
          {"rewards/rejected", report->rejectedReward},
          {"rewards/margins", report->margin},
          {"rewards/accuracies", report->accuracy}};
}

} // namespace

bool TrainingReporter::isStopRequested() { return isInterruptRequested(); }

double TrainingReporter::now() const {
  return std::chrono::duration<double>(Clock::now() - begin_).count();
}

/// A message takes the place of the bar, which is drawn again below it.
void TrainingReporter::say(const std::string& message) {
  if (isBarDrawn_)
    std::fputs("\r\x1b[K", stderr);
  isBarDrawn_ = false;
  logMessage("llmrt", message);
}

absl::Status
TrainingReporter::begin(const std::optional<ResumeReport>& resumed) {
  bool isContinued = resumed && !resumed->path.empty();
  int64_t step = isContinued ? resumed->position.step : 0;
  if (resumed)
    for (const std::string& message : resumed->messages)
      say(message);
  if (isContinued && !options_.isQuiet)
    say(absl::StrCat("continuing ", resumed->path, " after step ", step));
  if (resumed && !isContinued)
    say("there is no checkpoint yet: starting from the initial weights");
  if (!options_.metricsPath.empty()) {
    LLMRT_ASSIGN_OR_RETURN(
        metrics_, isContinued
                      ? MetricsWriter::resume(options_.metricsPath, step)
                      : MetricsWriter::create(options_.metricsPath));
  }
  if (!options_.tensorBoardFolder.empty()) {
    LLMRT_ASSIGN_OR_RETURN(
        tensorBoard_,
        TensorBoardWriter::create(options_.tensorBoardFolder,
                                  isContinued ? std::optional<int64_t>(step)
                                              : std::nullopt));
  }
  begin_ = Clock::now();
  step_ = firstStep_ = step;
  progress_.emplace(options_.totalSteps, step, now());
  return absl::OkStatus();
}

absl::Status TrainingReporter::takeStep(const StepReport& report) {
  step_ = report.step;
  numSkipped_ = report.after.skipped;
  progress_->addStep(report.isSkipped ? NAN : report.loss, report.learningRate,
                     report.numTokens, now() - evaluationSeconds_);
  double tokensPerSecond =
      report.seconds > 0
          ? static_cast<double>(report.numTokens) / report.seconds
          : 0;
  if (report.isSkipped)
    say(absl::StrCat("step ", report.step,
                     " was skipped: its gradients are not finite"));
  if (metrics_) {
    std::vector<Metric> metrics = {
        {"loss", report.loss},
        {"grad_norm", report.gradientNorm},
        {"learning_rate", report.learningRate},
        {"tokens_per_second", tokensPerSecond},
        {"communication_seconds", report.communicationSeconds},
        {"exposed_communication_seconds", report.exposedSeconds},
        {report.preference ? "pairs" : "tokens", report.after.tokens},
        {"epoch", report.epoch},
        {"skipped", report.isSkipped},
        {"skipped_steps", report.after.skipped}};
    for (const auto& [name, value] : preferenceScalars(report.preference))
      metrics.push_back({name, value});
    LLMRT_RETURN_IF_ERROR(metrics_->write(report.step, metrics));
  }
  if (tensorBoard_) {
    std::vector<Scalar> scalars = {
        {"train/loss", report.loss},
        {"train/grad_norm", report.gradientNorm},
        {"train/learning_rate", report.learningRate},
        {"train/tokens_per_second", tokensPerSecond},
        {"train/skipped_steps", static_cast<double>(report.after.skipped)}};
    for (const auto& [name, value] : preferenceScalars(report.preference))
      scalars.push_back({"train/" + name, value});
    LLMRT_RETURN_IF_ERROR(tensorBoard_->write(report.step, scalars));
  }
  printProgress(false);
  return absl::OkStatus();
}

absl::Status TrainingReporter::takeEvaluation(const EvaluationReport& report) {
  evaluationSeconds_ += report.seconds;
  if (!options_.isQuiet) {
    std::string text =
        absl::StrFormat("evaluation of %s after step %d: loss %.4f",
                        report.name, report.step, report.loss);
    if (report.preference)
      absl::StrAppendFormat(&text, ", accuracy %.3f, margin %.4f",
                            report.preference->accuracy,
                            report.preference->margin);
    say(absl::StrFormat("%s (%d %s, %.1f s)", text, report.numCounted,
                        report.preference ? "pairs" : "tokens",
                        report.seconds));
  }
  std::vector<Scalar> scalars = preferenceScalars(report.preference);
  scalars.insert(scalars.begin(), {"loss", report.loss});
  if (metrics_) {
    std::vector<Metric> metrics = {{"evaluation", report.name}};
    for (const auto& [name, value] : scalars)
      metrics.push_back({name, value});
    metrics.push_back(
        {report.preference ? "pairs" : "tokens", report.numCounted});
    metrics.push_back({"seconds", report.seconds});
    LLMRT_RETURN_IF_ERROR(metrics_->write(report.step, metrics));
  }
  if (!tensorBoard_)
    return absl::OkStatus();
  for (Scalar& scalar : scalars)
    scalar.first = absl::StrCat(report.name, "/", scalar.first);
  return tensorBoard_->write(report.step, scalars);
}

void TrainingReporter::printProgress(bool isDue) {
  if (options_.isQuiet || !progress_)
    return;
  bool isTerminal = isProgressTerminal();
  double seconds = now();
  isDue =
      isDue || step_ == firstStep_ + 1 || step_ == options_.totalSteps ||
      seconds - lastPrint_ >= (isTerminal ? kTerminalSeconds : kLineSeconds);
  if (!isDue)
    return;
  lastPrint_ = seconds;
  if (!isTerminal)
    return logMessage("llmrt", progress_->line());
  std::string bar = progress_->bar();
  std::fwrite(bar.data(), 1, bar.size(), stderr);
  isBarDrawn_ = true;
}

absl::Status TrainingReporter::takeSave(const CheckpointResult& saved,
                                        int64_t step) {
  lastSaved_ = saved.path;
  for (const std::string& message : saved.messages)
    say(message);
  if (!options_.isQuiet && !isProgressTerminal())
    say(absl::StrCat("saved ", saved.path));
  return absl::OkStatus();
}

void TrainingReporter::finish(TrainingEnd end,
                              const std::string& checkpointFolder) {
  if (isBarDrawn_)
    std::fputc('\n', stderr);
  isBarDrawn_ = false;
  if (end == TrainingEnd::Stopped && step_ == 0)
    return logMessage("llmrt", "stopped before the first step; run the same "
                               "command again");
  if (end == TrainingEnd::Stopped)
    return logMessage(
        "llmrt",
        checkpointFolder.empty()
            ? absl::StrCat("stopped after step ", step_,
                           "; nothing was saved: there is no --checkpoint-dir")
            : absl::StrCat("stopped after step ", step_, ", saved ", lastSaved_,
                           "; run the same command with --resume"));
  if (options_.isQuiet)
    return;
  std::string text = absl::StrCat("finished after step ", step_);
  if (numSkipped_ > 0)
    absl::StrAppend(&text, ", ", numSkipped_, " of them skipped");
  if (!lastSaved_.empty())
    absl::StrAppend(&text, ", saved ", lastSaved_);
  logMessage("llmrt", text);
}

} // namespace llmrt
