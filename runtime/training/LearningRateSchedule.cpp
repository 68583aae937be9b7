// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/LearningRateSchedule.h"

#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"

#include "absl/strings/str_join.h"

#include <cmath>
#include <numbers>

namespace llmrt {
namespace {

struct NamedShape {
  const char* name;
  ScheduleShape shape;
};

constexpr NamedShape kShapes[] = {{"constant", ScheduleShape::Constant},
                                  {"linear", ScheduleShape::Linear},
                                  {"cosine", ScheduleShape::Cosine},
                                  {"wsd", ScheduleShape::WarmupStableDecay}};

int64_t decaySteps(const LearningRateOptions& options) {
  return std::llround(options.decayFraction *
                      static_cast<double>(options.totalSteps));
}

absl::Status refuse(const std::string& what, const std::string& advice) {
  return makeError(ErrorCode::BadOptionValue, what, advice);
}

bool isRatio(double value) { return value >= 0 && value <= 1; }

} // namespace

absl::StatusOr<ScheduleShape> parseScheduleShape(absl::string_view text,
                                                 absl::string_view option) {
  std::vector<std::string> names;
  for (const NamedShape& known : kShapes) {
    if (text == known.name)
      return known.shape;
    names.emplace_back(known.name);
  }
  std::string nearest = nearestName(std::string(text), names);
  return refuse(absl::StrCat(option, " is no learning rate schedule: ", text),
                nearest.empty()
                    ? "use one of " + absl::StrJoin(names, ", ")
                    : absl::StrCat("did you mean ", nearest, "? (there are ",
                                   absl::StrJoin(names, ", "), ")"));
}

absl::StatusOr<LearningRateSchedule>
LearningRateSchedule::create(const LearningRateOptions& options) {
  if (!std::isfinite(options.peak) || options.peak < 0)
    return refuse(absl::StrCat("the learning rate is ", options.peak),
                  "give a number of 0 or more");
  if (options.warmupSteps < 0)
    return refuse(
        absl::StrCat("the warm-up is ", options.warmupSteps, " steps long"),
        "give a number of 0 or more");
  if (!isRatio(options.minimumRatio))
    return refuse(absl::StrCat("the ratio of the lowest learning rate to the "
                               "highest is ",
                               options.minimumRatio),
                  "give a number from 0 to 1");
  if (options.shape == ScheduleShape::Constant)
    return LearningRateSchedule(options);
  if (options.totalSteps < 1)
    return refuse(
        absl::StrCat("the run is ", options.totalSteps, " steps long"),
        "give the number of steps, which this schedule needs");
  bool hasDecay = options.shape == ScheduleShape::WarmupStableDecay;
  if (hasDecay && !isRatio(options.decayFraction))
    return refuse(
        absl::StrCat("the decay is ", options.decayFraction, " of the steps"),
        "give a number from 0 to 1");
  int64_t decay = hasDecay ? decaySteps(options) : 0;
  if (options.warmupSteps > options.totalSteps - decay)
    return refuse(
        absl::StrCat("a warm-up of ", options.warmupSteps, " steps",
                     hasDecay ? absl::StrCat(" and a decay of ", decay) : "",
                     " in a run of ", options.totalSteps),
        "shorten the warm-up, or run more steps");
  return LearningRateSchedule(options);
}

LearningRateSchedule::LearningRateSchedule(const LearningRateOptions& options)
    : options_(options),
      decayBegin_(options.shape == ScheduleShape::WarmupStableDecay
                      ? options.totalSteps - decaySteps(options)
                      : options.warmupSteps) {}

double LearningRateSchedule::at(int64_t step) const {
  if (step < options_.warmupSteps)
    return options_.peak * static_cast<double>(step) /
           static_cast<double>(options_.warmupSteps);
  if (options_.shape == ScheduleShape::Constant || step < decayBegin_)
    return options_.peak;
  if (step >= options_.totalSteps)
    return options_.peak * options_.minimumRatio;
  double progress = static_cast<double>(step - decayBegin_) /
                    static_cast<double>(options_.totalSteps - decayBegin_);
  double factor = options_.shape == ScheduleShape::Cosine
                      ? 0.5 * (1 + std::cos(std::numbers::pi * progress))
                      : 1 - progress;
  return options_.peak *
         (options_.minimumRatio + (1 - options_.minimumRatio) * factor);
}

} // namespace llmrt
