// SPDX-License-Identifier: Apache-2.0
// What a run tells about itself while it goes: speed, time left, a loss that
// does not jump. It formats lines and prints nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

namespace llmrt {

class TrainingProgress {
public:
  /// A run of `totalSteps`, of which `firstStep` were done before. Times are
  /// seconds of any steady clock.
  TrainingProgress(int64_t totalSteps, int64_t firstStep, double nowSeconds);

  /// Counts a step; `numTokens` over all ranks. A loss that is not finite (a
  /// skipped step) does not enter the smoothed one.
  void addStep(double loss, double learningRate, int64_t numTokens,
               double nowSeconds);

  /// Tokens per second over the last steps (32); 0 before the first.
  double tokensPerSecond() const;

  /// By the mean of the last steps; -1 before the first.
  double secondsLeft() const;

  /// Mean of the losses with weights that fall by 0.9 a step, as TensorBoard
  /// computes it: its first value is the first loss. NaN before.
  double smoothedLoss() const;

  /// "step 120 of 1000, loss 2.3456, learning rate 3.00e-04, 1234 tokens/s,
  /// 0:35 left"
  std::string line() const;

  /// The line with a bar before it, to be drawn over the one before on a
  /// terminal: begins with a carriage return, clears to the end of the line.
  std::string bar() const;

private:
  struct Moment {
    double seconds;
    int64_t numTokens; // until then
  };

  int64_t totalSteps_;
  int64_t step_;
  int64_t numTokens_ = 0;
  double learningRate_ = 0;
  double weightedLoss_ = 0;
  double lossWeight_ = 0;
  std::deque<Moment> moments_; // the ends of the last steps
};

} // namespace llmrt
