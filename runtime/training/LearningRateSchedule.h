// SPDX-License-Identifier: Apache-2.0
// The learning rate of each step. It is a run-time input of the plan, so that
// changing it needs no compilation.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include <cstdint>

namespace llmrt {

enum class ScheduleShape { Constant, Linear, Cosine, WarmupStableDecay };

/// Reads "constant", "linear", "cosine" or "wsd".
/// Errors  BadOptionValue, naming `option` and the name that is nearest.
absl::StatusOr<ScheduleShape> parseScheduleShape(absl::string_view text,
                                                 absl::string_view option);

struct LearningRateOptions {
  ScheduleShape shape = ScheduleShape::Cosine;
  double peak = 0;            // the highest learning rate
  int64_t warmupSteps = 0;    // it rises from 0 in equal steps
  int64_t totalSteps = 0;     // it is lowest from here on; unread by Constant
  double minimumRatio = 0;    // of the lowest to the highest
  double decayFraction = 0.1; // of totalSteps; WarmupStableDecay only
};

/// Constant    peak after the warm-up.
/// Linear      a straight line from peak to the minimum.
/// Cosine      half a cosine from peak to the minimum (Loshchilov and Hutter
///             2017, without restarts).
/// WarmupStableDecay  peak, then a straight line to the minimum over the last
///             decayFraction of the steps (Hu et al. 2024; Haegele et al.
///             2024).
/// The values are those of transformers' get_*_schedule_with_warmup.
class LearningRateSchedule {
public:
  /// Errors  BadOptionValue: a rate that is not finite or negative, a warm-up
  ///         (and decay) longer than the run, ratios outside 0 to 1.
  static absl::StatusOr<LearningRateSchedule>
  create(const LearningRateOptions& options);

  /// Returns the learning rate of the update that follows `step` others: at(0)
  /// is that of the first, which is 0 if there is a warm-up, as in PyTorch.
  double at(int64_t step) const;

private:
  explicit LearningRateSchedule(const LearningRateOptions& options);

  LearningRateOptions options_;
  int64_t decayBegin_;
};

} // namespace llmrt
