// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/TrainingOptions.h"

#include "runtime/base/Error.h"

#include "CLI/CLI.hpp"

#include <cmath>

namespace llmrt {
namespace {

constexpr const char* kData = "Training data (plans of --mode=train)";
constexpr const char* kOptimizer = "Training steps";
constexpr const char* kPreference =
    "Preference optimisation (plans of --objective=dpo)";
constexpr const char* kCheckpoints = "Training checkpoints";
constexpr const char* kReports = "Training reports";

void addDataOptions(CLI::App* run, TrainingRunOptions& options) {
  run->add_option("--data", options.data,
                  "training data, JSON lines; may be repeated")
      ->type_name("TRAIN.jsonl")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false)
      ->group(kData);
  run->add_option("--eval-data", options.evaluationData,
                  "held-out data; files of one name (eval) are one set")
      ->type_name("[NAME=]EVAL.jsonl")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false)
      ->group(kData);
  run->add_option("--eval-every", options.evaluateEvery,
                  "steps between evaluations; 0: before the first and after "
                  "the last only")
      ->type_name("N")
      ->capture_default_str()
      ->group(kData);
  run->add_flag("--skip-bad-records", options.skipsBadRecords,
                "leave out and count lines that are malformed")
      ->group(kData);
  run->add_option("--data-cache", options.cacheFolder,
                  "where token files lie; default: beside the first --data")
      ->type_name("DIR")
      ->group(kData);
}

void addOptimizerOptions(CLI::App* run, TrainingRunOptions& options) {
  run->add_option("--steps", options.numSteps,
                  "steps of the run, those before a resume included; default: "
                  "one pass over the data")
      ->type_name("N")
      ->group(kOptimizer);
  run->add_option("--learning-rate", options.learningRate,
                  "the highest learning rate")
      ->type_name("RATE")
      ->capture_default_str()
      ->group(kOptimizer);
  run->add_option("--lr-schedule", options.schedule,
                  "how it falls; wsd: warm-up, stable, decay")
      ->type_name("constant|linear|cosine|wsd")
      ->capture_default_str()
      ->group(kOptimizer);
  run->add_option("--warmup", options.warmupSteps,
                  "steps in which it rises from 0")
      ->type_name("N")
      ->capture_default_str()
      ->group(kOptimizer);
  run->add_option("--min-lr", options.minimumRate,
                  "where linear, cosine and wsd end")
      ->type_name("RATE")
      ->capture_default_str()
      ->group(kOptimizer);
  run->add_option("--decay-fraction", options.decayFraction,
                  "share of the steps in which wsd falls")
      ->type_name("SHARE")
      ->capture_default_str()
      ->group(kOptimizer);
  OptimizerSettings& adamw = options.optimizer;
  auto add = [&](const char* name, double& value, const char* text) {
    run->add_option(name, value, text)
        ->type_name("X")
        ->capture_default_str()
        ->group(kOptimizer);
  };
  add("--weight-decay", adamw.weightDecay,
      "of matrices; norms and biases have "
      "none");
  add("--beta1", adamw.beta1, "decay of the first moment");
  add("--beta2", adamw.beta2, "decay of the second moment");
  add("--epsilon", adamw.epsilon, "added to the root of the second moment");
  add("--clip", adamw.clip, "largest norm of all gradients; 0: no limit");
  run->add_option("--max-skipped-steps", options.mostSkippedSteps,
                  "end after so many steps in a row whose gradients are not "
                  "finite; 0: never")
      ->type_name("N")
      ->capture_default_str()
      ->group(kOptimizer);
}

void addPreferenceOptions(CLI::App* run, PreferenceSettings& preference) {
  run->add_option("--dpo-beta", preference.beta,
                  "how strongly the reference model holds the model back")
      ->type_name("X")
      ->capture_default_str()
      ->group(kPreference);
  run->add_option("--dpo-label-smoothing", preference.labelSmoothing,
                  "share of pairs that are taken to be the wrong way round, "
                  "for the sigmoid loss")
      ->type_name("SHARE")
      ->capture_default_str()
      ->group(kPreference);
}

void addCheckpointOptions(CLI::App* run, TrainingRunOptions& options) {
  run->add_option("--checkpoint-dir", options.checkpointFolder,
                  "folder of checkpoints; one is written at the end and after "
                  "SIGTERM or Ctrl-C")
      ->type_name("DIR")
      ->group(kCheckpoints);
  run->add_option("--save-every", options.saveEvery,
                  "steps between checkpoints; 0: at the end only")
      ->type_name("N")
      ->capture_default_str()
      ->group(kCheckpoints);
  run->add_option("--keep", options.keep,
                  "newest checkpoints that are kept; 0: all")
      ->type_name("N")
      ->capture_default_str()
      ->group(kCheckpoints);
  run->add_flag("--resume", options.isResumed,
                "continue from the newest whole checkpoint, if there is one")
      ->group(kCheckpoints);
}

absl::Status badValue(absl::string_view option, double value,
                      const std::string& advice) {
  return makeError(ErrorCode::BadOptionValue, absl::StrCat(option, "=", value),
                   advice);
}

/// Kernels take numbers as f32: one that is too small would be 0 there, one
/// that is too large infinite.
bool fitsFloat(double value) {
  float narrow = static_cast<float>(value);
  return std::isfinite(narrow) && (value == 0 || narrow != 0);
}

absl::Status checkOptimizer(const OptimizerSettings& adamw) {
  for (auto [option, beta] :
       {std::pair{"--beta1", adamw.beta1}, std::pair{"--beta2", adamw.beta2}})
    if (!(beta >= 0 && beta < 1))
      return badValue(option, beta, "give a number from 0 to below 1");
  // Below f32's normal numbers its quotients are infinite.
  if (!(adamw.epsilon >= 1e-37 && fitsFloat(adamw.epsilon)))
    return badValue("--epsilon", adamw.epsilon,
                    "give a small positive number, 1e-37 or more");
  if (!(adamw.clip >= 0 && fitsFloat(adamw.clip)))
    return badValue("--clip", adamw.clip,
                    "give 0 for no limit, or a positive number from 1e-45 to "
                    "3e38");
  if (!(adamw.weightDecay >= 0 && fitsFloat(adamw.weightDecay)))
    return badValue("--weight-decay", adamw.weightDecay,
                    "give 0 or a positive number, 3e38 at most");
  return absl::OkStatus();
}

absl::Status checkPreference(const PreferenceSettings& preference) {
  // The target of ipo, 1 / (2 beta), is squared in f32.
  if (!(preference.beta >= 1e-9 && preference.beta <= 1e9))
    return badValue("--dpo-beta", preference.beta,
                    "give a number from 1e-9 to 1e9, such as 0.1");
  if (!(preference.labelSmoothing >= 0 && preference.labelSmoothing < 0.5))
    return badValue("--dpo-label-smoothing", preference.labelSmoothing,
                    "give a number from 0 to below 0.5");
  return absl::OkStatus();
}

absl::Status checkRates(const TrainingRunOptions& options) {
  if (!(options.learningRate >= 0 &&
        std::isfinite(static_cast<float>(options.learningRate))))
    return badValue("--learning-rate", options.learningRate,
                    "give 0 or a positive number, 3e38 at most");
  if (!(options.minimumRate >= 0 &&
        options.minimumRate <= options.learningRate))
    return badValue("--min-lr", options.minimumRate,
                    absl::StrCat("give a number from 0 to --learning-rate=",
                                 options.learningRate));
  return parseScheduleShape(options.schedule, "--lr-schedule").status();
}

} // namespace

void addTrainingOptions(CLI::App* run, TrainingRunOptions& options) {
  addDataOptions(run, options);
  addOptimizerOptions(run, options);
  addPreferenceOptions(run, options.preference);
  addCheckpointOptions(run, options);
  run->add_option("--metrics", options.metricsPath,
                  "one JSON object a step; a resumed run continues it")
      ->type_name("OUT.jsonl")
      ->group(kReports);
  run->add_option("--tensorboard", options.tensorBoardFolder,
                  "event files for TensorBoard")
      ->type_name("DIR")
      ->group(kReports);
}

bool isTrainingGroup(const std::string& group) {
  return group == kData || group == kOptimizer || group == kPreference ||
         group == kCheckpoints || group == kReports;
}

bool isPreferenceGroup(const std::string& group) {
  return group == kPreference;
}

absl::Status checkTrainingOptions(const TrainingRunOptions& options) {
  LLMRT_RETURN_IF_ERROR(checkOptimizer(options.optimizer));
  LLMRT_RETURN_IF_ERROR(checkPreference(options.preference));
  LLMRT_RETURN_IF_ERROR(checkRates(options));
  if (options.numSteps && *options.numSteps < 1)
    return badValue("--steps", static_cast<double>(*options.numSteps),
                    "give 1 or more, or leave it out for one pass over the "
                    "data");
  if (options.evaluateEvery > 0 && options.evaluationData.empty())
    return makeError(ErrorCode::OptionsContradict,
                     "--eval-every without held-out data",
                     "add --eval-data=EVAL.jsonl");
  const std::pair<const char*, int64_t> counts[] = {
      {"--warmup", options.warmupSteps},
      {"--save-every", options.saveEvery},
      {"--keep", options.keep},
      {"--eval-every", options.evaluateEvery},
      {"--max-skipped-steps", options.mostSkippedSteps}};
  for (const auto& [option, count] : counts)
    if (count < 0)
      return badValue(option, static_cast<double>(count),
                      "give a whole number, 0 or more");
  if (options.checkpointFolder.empty() &&
      (options.saveEvery > 0 || options.keep > 0 || options.isResumed))
    return makeError(ErrorCode::OptionsContradict,
                     "--save-every, --keep and --resume need a folder of "
                     "checkpoints",
                     "add --checkpoint-dir=DIR");
  return absl::OkStatus();
}

absl::StatusOr<LearningRateSchedule>
makeSchedule(const TrainingRunOptions& options, int64_t totalSteps) {
  LearningRateOptions rate;
  LLMRT_ASSIGN_OR_RETURN(rate.shape,
                         parseScheduleShape(options.schedule, "--lr-schedule"));
  rate.peak = options.learningRate;
  rate.warmupSteps = options.warmupSteps;
  rate.totalSteps = totalSteps;
  rate.decayFraction = options.decayFraction;
  if (options.learningRate > 0)
    rate.minimumRatio = options.minimumRate / options.learningRate;
  return LearningRateSchedule::create(rate);
}

} // namespace llmrt
