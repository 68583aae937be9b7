// SPDX-License-Identifier: Apache-2.0
// Rounds of a run as a Chrome trace (chrome://tracing, Perfetto): one row a
// rank.
#pragma once

#include "tools/llmrt/Session.h"

namespace llmrt {

/// `firstRank` is the rank of traces[0].
/// Errors  FileNotWritable, DiskFull.
absl::Status writeTrace(const std::string& path,
                        const std::vector<std::string>& entryNames,
                        const std::vector<std::vector<TraceEvent>>& traces,
                        int firstRank);

} // namespace llmrt
