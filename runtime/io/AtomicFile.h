// SPDX-License-Identifier: Apache-2.0
// A file that appears whole or not at all: written under a temporary name in
// the same folder, synced, then renamed. Every writer of the runtime uses it.
// It does not lock: of two writers of one path the last commit wins.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>
#include <string>
#include <vector>

namespace llmrt {

class AtomicFile {
public:
  /// Creates an empty temporary file beside `path`; a symbolic link is
  /// followed.
  /// Errors  FileNotWritable (no such folder, or `path` is not a regular
  ///         file), DiskFull.
  static absl::StatusOr<AtomicFile> create(const std::string& path);

  AtomicFile() = default;
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  /// Removes the temporary file unless commit() returned ok.
  ~AtomicFile();

  /// Adds bytes at the end; buffered.
  /// Errors  FileNotWritable, DiskFull; the temporary file is then gone, and
  ///         every later call returns the same error.
  absl::Status append(absl::Span<const uint8_t> bytes);
  absl::Status append(absl::string_view text);

  /// Replaces bytes already appended, at `offsetBytes`. Errors as append().
  absl::Status overwrite(int64_t offsetBytes, absl::Span<const uint8_t> bytes);

  /// Writes what is buffered, syncs, renames to the path given to create(), and
  /// syncs the folder. Nothing may be appended after. Errors as append().
  absl::Status commit();

  /// Returns the bytes appended so far.
  int64_t sizeBytes() const { return sizeBytes_; }

  const std::string& path() const { return path_; }

private:
  absl::Status flush();
  absl::Status writeAll(int64_t offsetBytes, const uint8_t* data, size_t count);
  absl::Status fail(int errnum, absl::string_view doing);
  void abandon();

  std::string path_;
  std::string temporaryPath_;
  int fd_ = -1;
  int64_t sizeBytes_ = 0;
  std::vector<uint8_t> buffer_; // the last buffer_.size() of sizeBytes_ bytes
  absl::Status status_;
};

} // namespace llmrt
