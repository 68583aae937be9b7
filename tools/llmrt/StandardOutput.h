// SPDX-License-Identifier: Apache-2.0
// Results on standard output, with the errors that writing to a full disk has.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace llmrt {

/// Writes at once, unbuffered, so that streamed text appears as it comes.
/// Errors  FileNotWritable, DiskFull.
absl::Status writeStandardOutput(absl::string_view text);

} // namespace llmrt
