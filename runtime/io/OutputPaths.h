// SPDX-License-Identifier: Apache-2.0
// Looks at the files that a command is to write before it does any work: none
// may be what it reads.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"

#include <string>

namespace llmrt {

/// A file that a command is to write, and the option that names it. An empty
/// path and "-" are no file.
struct OutputPath {
  std::string option; // "--output"
  std::string path;
};

/// `inputs`: files and folders that the command reads; what does not exist is
/// none. Of a folder, files of a checkpoint count as read.
/// Errors  OptionsContradict if an output is an input or two outputs are one
///         file; FileNotWritable if the folder of an output is not there or
///         takes no files.
absl::Status checkOutputPaths(absl::Span<const OutputPath> outputs,
                              absl::Span<const std::string> inputs);

} // namespace llmrt
