// SPDX-License-Identifier: Apache-2.0
// Private to the executor: what a call took, for its statistics.
#pragma once

#include "runtime/executor/Executor.h"
#include "runtime/executor/Rank.h"

#include <chrono>

namespace llmrt {

/// Measures what runs between its making and read(), which follows a
/// synchronize().
class Stopwatch {
public:
  explicit Stopwatch(const Rank& rank)
      : rank_(rank), waited_(rank.device.waitSeconds()),
        communicated_(rank.communicationSeconds) {}

  ExecuteStatistics read(int64_t commands) const {
    std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - begin_;
    return {.seconds = elapsed.count(),
            .waitSeconds = rank_.device.waitSeconds() - waited_,
            .communicationSeconds = rank_.communicationSeconds - communicated_,
            .commands = commands};
  }

private:
  const Rank& rank_;
  double waited_;
  double communicated_;
  std::chrono::steady_clock::time_point begin_ =
      std::chrono::steady_clock::now();
};

} // namespace llmrt
