// SPDX-License-Identifier: Apache-2.0
// The file of --memory-report: what the plan says that each rank holds, beside
// what it held.
#pragma once

#include "tools/llmrt/Session.h"

namespace llmrt {

/// Writes SessionEnd::memory from the process of rank 0; nothing if `path` is
/// empty. Errors  FileNotWritable, DiskFull.
absl::Status writeMemoryReport(const std::string& path,
                               const LaunchInfo& launch, const SessionEnd& end);

} // namespace llmrt
