// SPDX-License-Identifier: Apache-2.0
// The commands of llmrt. Each returns how it ended; main() prints errors and
// chooses the exit status.
#pragma once

#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/Options.h"

namespace llmrt {

struct CommandEnd {
  absl::Status status;
  bool isInterrupted = false;
  bool isReporter = true; // false: another process prints the error
  std::vector<std::string> recorders = {}; // of SessionEnd
  int interruptedStatus = kInterruptedStatus;
};

CommandEnd runCommand(const RunOptions& options);
/// Of a plan of --mode=train; runCommand() comes here.
CommandEnd trainCommand(const RunOptions& options, const LaunchInfo& launch);
CommandEnd exportCommand(const ExportOptions& options);
CommandEnd benchCommand(const BenchOptions& options);
CommandEnd compareCommand(const CompareOptions& options);
CommandEnd envCommand();

} // namespace llmrt
