// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/TrainingProgress.h"

#include "runtime/base/ClockText.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llmrt {
namespace {

constexpr size_t kWindowSteps = 32;
constexpr double kLossDecay = 0.9;
constexpr int kBarWidth = 24;

} // namespace

TrainingProgress::TrainingProgress(int64_t totalSteps, int64_t firstStep,
                                   double nowSeconds)
    : totalSteps_(totalSteps), step_(firstStep), moments_({{nowSeconds, 0}}) {}

void TrainingProgress::addStep(double loss, double learningRate,
                               int64_t numTokens, double nowSeconds) {
  ++step_;
  numTokens_ += numTokens;
  learningRate_ = learningRate;
  if (std::isfinite(loss)) {
    weightedLoss_ = kLossDecay * weightedLoss_ + (1 - kLossDecay) * loss;
    lossWeight_ = kLossDecay * lossWeight_ + (1 - kLossDecay);
  }
  moments_.push_back({nowSeconds, numTokens_});
  if (moments_.size() > kWindowSteps + 1)
    moments_.pop_front();
}

double TrainingProgress::tokensPerSecond() const {
  double seconds = moments_.back().seconds - moments_.front().seconds;
  auto numTokens = static_cast<double>(moments_.back().numTokens -
                                       moments_.front().numTokens);
  return seconds > 0 ? numTokens / seconds : 0;
}

double TrainingProgress::secondsLeft() const {
  if (moments_.size() < 2)
    return -1;
  double seconds = moments_.back().seconds - moments_.front().seconds;
  auto numSteps = static_cast<double>(moments_.size() - 1);
  return seconds / numSteps *
         static_cast<double>(std::max<int64_t>(totalSteps_ - step_, 0));
}

double TrainingProgress::smoothedLoss() const {
  return lossWeight_ > 0 ? weightedLoss_ / lossWeight_
                         : std::numeric_limits<double>::quiet_NaN();
}

std::string TrainingProgress::line() const {
  std::string text = absl::StrFormat("step %d of %d", step_, totalSteps_);
  if (moments_.size() < 2)
    return text;
  absl::StrAppendFormat(&text, ", loss %.4f, learning rate %.2e, %.0f tokens/s",
                        smoothedLoss(), learningRate_, tokensPerSecond());
  if (step_ < totalSteps_)
    absl::StrAppend(&text, ", ", clockText(secondsLeft()), " left");
  return text;
}

std::string TrainingProgress::bar() const {
  int64_t filled =
      totalSteps_ > 0 ? kBarWidth * step_ / totalSteps_ : kBarWidth;
  auto width = static_cast<size_t>(std::clamp<int64_t>(filled, 0, kBarWidth));
  return absl::StrCat("\r[", std::string(width, '#'),
                      std::string(kBarWidth - width, '.'), "] ", line(),
                      "\x1b[K");
}

} // namespace llmrt
