// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run did as a Chrome trace (chrome://tracing, Perfetto): a
// process for each rank, with rows for entries, compute and communication.
#pragma once

#include "tools/llmrt/Session.h"

namespace llmrt {

/// Writes the timelines of `end`; does nothing on ranks of an MPI job other
/// than 0, and without a path. Format: docs/reference/llmrt.md, trace.
/// Errors  FileNotWritable, DiskFull.
absl::Status writeTrace(const std::string& path, const LaunchInfo& launch,
                        const SessionEnd& end);

} // namespace llmrt
