// SPDX-License-Identifier: Apache-2.0
// The commands of llmc. Each takes its parsed options and returns an exit code:
// 0, 1 for a failure (printed once), 2 for a command line that makes no sense.
// diff and check return 1 only for plans that differ or grew, and kTrouble for
// every other failure.
#pragma once

#include "absl/status/status.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace mlir {
class MLIRContext;
}

namespace llmc {

inline constexpr int kUsage = 2, kTrouble = 2;

/// What the command line said, for all commands.
struct CommandLine {
  std::string command;
  std::set<std::string> given; // names of the options that were typed
  std::vector<std::string> positional;
  std::string output;
  // import
  std::string newModel;
  // compile
  std::string mode, target, mesh, dtype, weightsFormat;
  int64_t zero = 0, batch = 0, seq = 0, chunk = 0;
  std::string memoryLimit;
  std::string compileTo, compileFrom, dumpFolder;
  std::vector<std::string> disabled;
  bool noSequenceParallel = false, quiet = false;
  std::string objective, schedule, recompute, freeze;
  std::string preferenceLoss, reference;
  int64_t referenceZero = 0;
  int64_t microbatches = 1, virtualStages = 1;
  // inspect, check
  std::string outputForm, entry, budget;
  bool updateBudget = false;
};

int runImport(const CommandLine& line, mlir::MLIRContext& context);
int runCompile(const CommandLine& line, mlir::MLIRContext& context);
int runListPhases();
int runListPasses();
int runInspect(const CommandLine& line, mlir::MLIRContext& context);
int runExplain(const CommandLine& line);
int runDiff(const CommandLine& line);
int runCheck(const CommandLine& line);

/// Prints "llmc: message" once. Returns `exitCode`; if 0, kUsage for an error
/// of the command line and 1 for any other.
int fail(const absl::Status& status, int exitCode = 0);

/// Registers the dialects of the project with a context.
void loadDialects(mlir::MLIRContext& context);

} // namespace llmc
