// SPDX-License-Identifier: Apache-2.0
// The folder of checkpoints as a file system sees it: names, what appears and
// disappears at once, and what old saves left behind. It knows nothing of
// ranks and of what a checkpoint holds.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include <cstdint>
#include <string>
#include <vector>

namespace llmrt {

inline constexpr const char* kCheckpointJson = "checkpoint.json";

/// Returns "step-00000100", or ".step-00000100.partial" for one being written.
std::string checkpointName(int64_t step);
std::string partialCheckpointName(int64_t step);

/// Returns the steps of which `folder` holds a finished checkpoint (a folder of
/// that name), ascending. It may still be damaged. Empty if there is no folder.
std::vector<int64_t> listCheckpointSteps(const std::string& folder);

/// Makes `folder` if there is none. Errors  FileNotWritable, DiskFull.
absl::Status makeFolders(const std::string& folder);

/// Removes every .step-*.partial of `folder`: saves that never ended.
/// Errors  FileNotWritable.
absl::Status removePartialCheckpoints(const std::string& folder);

/// Removes a checkpoint so that it disappears at once: renamed, then deleted.
/// Errors  FileNotWritable.
absl::Status removeCheckpoint(const std::string& folder, int64_t step);

/// Makes `from` appear as `to` at once. If `to` exists, the two change places,
/// and what `to` was is then deleted (or left under a hidden name).
/// Errors  FileNotWritable, DiskFull; `to` is then as it was.
absl::Status publishFolder(const std::string& from, const std::string& to);

/// Waits until the entries of `folder` are on the disk.
/// Errors  FileNotWritable, DiskFull.
absl::Status syncFolder(const std::string& folder);

/// Writes and syncs a whole file that must not exist.
/// Errors  FileNotWritable, DiskFull.
absl::Status writeSmallFile(const std::string& path, absl::string_view text);

/// Writes all bytes at an offset of an open file; `path` is for messages.
/// Errors  FileNotWritable, DiskFull.
absl::Status writeFully(int fd, const void* data, int64_t sizeBytes,
                        int64_t offsetBytes, const std::string& path);

} // namespace llmrt
