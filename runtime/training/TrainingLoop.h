// SPDX-License-Identifier: Apache-2.0
// The steps of a training run on one rank: data in, step, agreement with the
// other ranks, checkpoints. It prints nothing and knows no options; what is
// shown and logged is the observer's.
#pragma once

#include "runtime/data/BatchSource.h"
#include "runtime/executor/Executor.h"
#include "runtime/training/Evaluation.h"
#include "runtime/training/LearningRateSchedule.h"
#include "runtime/training/NonFiniteGuard.h"
#include "runtime/training/StepRecord.h"
#include "runtime/training/TrainingCheckpoint.h"

#include <memory>
#include <optional>

namespace llmrt {

/// AdamW and clipping; docs/design/training.md, hyper.
struct OptimizerSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weightDecay = 0;
  double clip = 0; // 0: none
};

/// Of preference optimisation; docs/design/training.md, hyper.
struct PreferenceSettings {
  double beta = 0.1;
  double labelSmoothing = 0;
  const ReferenceLosses* reference = nullptr; // null: the plan computes them
};

struct TrainingSettings {
  OptimizerSettings optimizer;
  PreferenceSettings preference = {};
  LearningRateSchedule schedule;
  int64_t totalSteps = 0;
  int64_t mostSkippedInRow = 0; // 0: any number
  TrainingIdentity identity;    // sequencesPerEpoch is set by create()
  std::string checkpointFolder; // empty: none are written
  int64_t saveEvery = 0;        // 0: at the end only
  int keep = 0;                 // 0: all
  bool isResumed = false;
  /// Evaluated before the first step of a new run, every evaluateEvery steps
  /// (0: only then) and after the last.
  std::vector<HeldOutData> heldOut = {};
  int64_t evaluateEvery = 0;
};

/// One step, the same on all ranks.
struct StepReport {
  int64_t step = 0; // steps done, this one included
  double loss = 0;
  double gradientNorm = 0; // before clipping
  double learningRate = 0;
  int64_t numTokens = 0;  // rows of the step, over all data ranks
  int64_t numCounted = 0; // labels; dpo: pairs
  std::optional<PreferenceReport> preference;
  double seconds = 0; // on this rank, its data and the agreement included
  // On this rank: in collectives of the step; of them while nothing computed.
  double communicationSeconds = 0;
  double exposedSeconds = 0;
  bool isSkipped = false; // not finite: nothing was updated
  TrainingPosition after;
  int64_t epoch = 0;
};

/// What a run continues.
struct ResumeReport {
  std::string path; // empty: there was no checkpoint yet
  TrainingPosition position;
  std::vector<std::string> messages; // newer ones that are damaged
};

/// What a run tells. Its calls come from the thread of the rank.
class TrainingObserver {
public:
  virtual ~TrainingObserver() = default;

  /// Asked on every rank after every step: one yes stops all.
  virtual bool isStopRequested() { return false; }

  /// The others are called on rank 0. An error ends the run.
  virtual absl::Status begin(const std::optional<ResumeReport>& resumed) {
    return absl::OkStatus();
  }

  virtual absl::Status takeStep(const StepReport& step) {
    return absl::OkStatus();
  }

  virtual absl::Status takeEvaluation(const EvaluationReport& evaluation) {
    return absl::OkStatus();
  }

  virtual absl::Status takeSave(const CheckpointResult& saved, int64_t step) {
    return absl::OkStatus();
  }
};

enum class TrainingEnd {
  Finished,
  Stopped, // on request, after a checkpoint if there is a folder for them
};

class TrainingLoop {
public:
  /// Plan, executor, data and observer outlive the loop; the executor is
  /// initialised. Collective over all ranks.
  /// Errors  BatchShapeInvalid, PlanInvalid (inputs of another shape),
  ///         ControlRecordMismatch (ranks have other settings); those of a
  ///         Fabric.
  static absl::StatusOr<std::unique_ptr<TrainingLoop>>
  create(const fb::Plan& plan, Executor& executor, Fabric& fabric,
         const BatchSource& data, const TrainingSettings& settings,
         TrainingObserver& observer);

  /// Resumes if asked to, then runs steps until totalSteps are done. Every
  /// rank calls it once.
  /// Errors  CheckpointFolderUsed; those of loadTraining(), saveTraining(),
  ///         executeStep(), BatchSource::fill(); NonFiniteSteps;
  ///         ControlRecordMismatch.
  absl::StatusOr<TrainingEnd> run();

private:
  TrainingLoop(const fb::Plan& plan, Executor& executor,
               const BatchSource& data, const TrainingSettings& settings,
               TrainingObserver& observer)
      : plan_(plan), executor_(executor), data_(data), settings_(settings),
        observer_(observer), tensors_(LogicalTensors::create(plan, executor)),
        guard_(settings.mostSkippedInRow) {}

  absl::Status prepare(Fabric& fabric);
  absl::Status begin();
  absl::StatusOr<ResumeReport> resume();
  absl::StatusOr<StepOutcome> runStep();
  absl::StatusOr<bool> evaluateAll();
  bool isEvaluationDue(bool isLast) const;
  void fillHyper(double learningRate);
  absl::StatusOr<StepRecord> recordOfStep();
  absl::Status takeOutcome(const StepOutcome& outcome, double seconds);
  absl::Status save();
  double learningRate() const;

  const fb::Plan& plan_;
  Executor& executor_;
  const BatchSource& data_;
  TrainingSettings settings_;
  TrainingObserver& observer_;
  LogicalTensors tensors_;
  NonFiniteGuard guard_;
  std::unique_ptr<Communicator> all_; // null: one rank
  int rank_ = 0;
  BatchPlace place_;
  TrainingPosition at_;
  int64_t savedStep_ = -1;
  ExecuteStatistics statistics_; // of the last step
};

} // namespace llmrt
