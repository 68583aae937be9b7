// SPDX-License-Identifier: Apache-2.0
// What training shows and writes about itself: progress on standard error,
// metrics as JSON lines, TensorBoard. Made for each rank; only rank 0's is told
// anything.
#pragma once

#include "runtime/training/MetricsWriter.h"
#include "runtime/training/TensorBoardWriter.h"
#include "runtime/training/TrainingLoop.h"
#include "runtime/training/TrainingProgress.h"

#include <chrono>
#include <optional>
#include <string>

namespace llmrt {

struct ReporterOptions {
  std::string metricsPath;       // empty: none
  std::string tensorBoardFolder; // empty: none
  int64_t totalSteps = 0;
  bool isQuiet = false;
};

class TrainingReporter final : public TrainingObserver {
public:
  explicit TrainingReporter(const ReporterOptions& options)
      : options_(options) {}

  bool isStopRequested() override;
  absl::Status begin(const std::optional<ResumeReport>& resumed) override;
  absl::Status takeStep(const StepReport& step) override;
  absl::Status takeEvaluation(const EvaluationReport& evaluation) override;
  absl::Status takeSave(const CheckpointResult& saved, int64_t step) override;

  /// Says how the run ended.
  void finish(TrainingEnd end, const std::string& checkpointFolder);

private:
  using Clock = std::chrono::steady_clock;

  void say(const std::string& message);
  void printProgress(bool isDue);
  double now() const;

  ReporterOptions options_;
  std::optional<MetricsWriter> metrics_;
  std::optional<TensorBoardWriter> tensorBoard_;
  std::optional<TrainingProgress> progress_;
  Clock::time_point begin_ = Clock::now();
  double lastPrint_ = 0;
  bool isBarDrawn_ = false;
  int64_t step_ = 0;
  int64_t firstStep_ = 0;
  int64_t numSkipped_ = 0;
  std::string lastSaved_;
};

} // namespace llmrt
