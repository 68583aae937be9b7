// SPDX-License-Identifier: Apache-2.0
// The options of llmrt run that belong to training, and how they are spelled.
#pragma once

#include "runtime/training/LearningRateSchedule.h"
#include "runtime/training/TrainingLoop.h"

#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace llmrt {

struct TrainingRunOptions {
  // Data.
  std::vector<std::string> data;
  std::vector<std::string> evaluationData;
  int64_t evaluateEvery = 0;
  bool skipsBadRecords = false;
  std::string cacheFolder;
  // Steps and the optimizer.
  std::optional<int64_t> numSteps; // nothing: one epoch
  double learningRate = 5e-5;
  std::string schedule = "cosine";
  int64_t warmupSteps = 0;
  double minimumRate = 0;
  double decayFraction = 0.1;
  OptimizerSettings optimizer{.weightDecay = 0.01, .clip = 1};
  int64_t mostSkippedSteps = 10;
  PreferenceSettings preference; // beta and smoothing
  std::string preferenceOption;  // one that was given; empty: none
  // Checkpoints.
  std::string checkpointFolder;
  int64_t saveEvery = 0;
  int keep = 0;
  bool isResumed = false;
  // What is written about the run.
  std::string metricsPath;
  std::string tensorBoardFolder;
};

/// Adds the options to `run`, bound to `options`.
void addTrainingOptions(CLI::App* run, TrainingRunOptions& options);

/// Whether options of this group of a help text belong to training.
bool isTrainingGroup(const std::string& group);

/// Whether they belong to plans of --objective=dpo only.
bool isPreferenceGroup(const std::string& group);

/// Returns BadOptionValue or OptionsContradict if the options make no sense.
absl::Status checkTrainingOptions(const TrainingRunOptions& options);

/// Makes the schedule of a run of `totalSteps`. Errors  BadOptionValue.
absl::StatusOr<LearningRateSchedule>
makeSchedule(const TrainingRunOptions& options, int64_t totalSteps);

} // namespace llmrt
