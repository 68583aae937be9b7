// SPDX-License-Identifier: Apache-2.0
// `--memory-limit`: refuses a plan that does not fit, before anything runs, and
// says what would make it fit.
#pragma once

#include "tools/llmc/FittingChanges.h"

namespace llmc {

/// Reads "8G", "512M", "1.5g" or a number of bytes (powers of 1024).
/// Errors  BadOptionValue.
absl::StatusOr<int64_t> parseBytes(const std::string& text);

struct MemoryVerdict {
  /// MemoryLimit, naming stage, largest classes and buffers, and the changes.
  absl::Status status;
  /// A line for each change: its options, what it needs and what it costs.
  std::string changes;
};

/// Compares the arena of every stage with the limit. `compile` is empty when
/// the options cannot be changed (the input is a dump).
MemoryVerdict checkMemoryLimit(const fb::Plan& plan, int64_t limitBytes,
                               const CommandLine& line,
                               const TrialCompiler& compile);

} // namespace llmc
