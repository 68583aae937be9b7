// SPDX-License-Identifier: Apache-2.0
// Progress of a file of prompts on standard error: a bar on a terminal, else a
// line now and then.
#pragma once

#include <chrono>
#include <cstdint>

namespace llmrt {

class Progress {
public:
  /// `numDone` of `numPrompts` were done by an earlier run.
  Progress(int64_t numPrompts, int64_t numDone, bool isQuiet);

  /// Counts rows fed and prompts done; prints if it is time to.
  void addTokens(int64_t count);
  void addPrompt();
  /// Prints the last state and ends the line.
  void finish();

private:
  using Clock = std::chrono::steady_clock;

  void printIfDue();
  void print();

  int64_t numPrompts_;
  int64_t numDoneBefore_;
  int64_t numDone_;
  int64_t numTokens_ = 0;
  bool isQuiet_;
  bool isTerminal_;
  Clock::time_point begin_;
  Clock::time_point lastPrint_;
};

} // namespace llmrt
