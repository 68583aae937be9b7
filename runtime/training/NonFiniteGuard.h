// SPDX-License-Identifier: Apache-2.0
// Steps whose loss or gradients are not finite change nothing; this counts them
// and ends a run that only skips.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include <cstdint>
#include <string>

namespace llmrt {

class NonFiniteGuard {
public:
  /// Ends the run after `mostInRow` skipped steps in a row; 0: never.
  /// `numSkippedBefore` were skipped by the run that is resumed.
  explicit NonFiniteGuard(int64_t mostInRow, int64_t numSkippedBefore = 0)
      : mostInRow_(mostInRow), numSkipped_(numSkippedBefore) {}

  /// A step that was taken.
  void addGoodStep() { numInRow_ = 0; }

  /// A step that was skipped. `parameter` is the first whose gradient is not
  /// finite, or empty if it is the loss alone that is not.
  /// Errors  NonFiniteSteps at the last that is allowed; names the parameter of
  ///         the first step of the row, where it began.
  absl::Status addSkippedStep(int64_t step, absl::string_view parameter);

  int64_t numSkipped() const { return numSkipped_; }

  int64_t numInRow() const { return numInRow_; }

private:
  int64_t mostInRow_;
  int64_t numSkipped_;
  int64_t numInRow_ = 0;
  int64_t firstStep_ = 0; // of the row
  std::string firstParameter_;
};

} // namespace llmrt
