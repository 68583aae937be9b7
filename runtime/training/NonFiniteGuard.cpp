// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/NonFiniteGuard.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

namespace llmrt {

absl::Status NonFiniteGuard::addSkippedStep(int64_t step,
                                            absl::string_view parameter) {
  ++numSkipped_;
  if (++numInRow_ == 1) {
    firstStep_ = step;
    firstParameter_ = std::string(parameter);
  }
  if (mostInRow_ <= 0 || numInRow_ < mostInRow_)
    return absl::OkStatus();
  std::string where = firstParameter_.empty()
                          ? "the loss"
                          : absl::StrCat("the gradient of ", firstParameter_);
  return makeError(
      ErrorCode::NonFiniteSteps,
      absl::StrCat(where, " was not finite at step ", firstStep_,
                   ", nor was any of ", numInRow_, " steps in a row; ",
                   numSkipped_, " steps were skipped in all"),
      "lower the learning rate, clip gradients, or look for bad records, and "
      "resume from the last checkpoint");
}

} // namespace llmrt
