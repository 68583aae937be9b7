// SPDX-License-Identifier: Apache-2.0
// The output of a batch, and its memory of what is done. Finished lines go, in
// the order in which they finish, into OUTPUT.partial; when all are there,
// OUTPUT appears in input order, whole or not at all, and the partial file
// goes. A run that was interrupted is continued from its partial file.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include <cstdint>
#include <string>
#include <vector>

namespace llmrt {

class ResultFile {
public:
  /// Opens or continues the partial file of `path`. `fingerprint` stands for
  /// all that decides the results: input, plan, weights, options. Errors
  /// PartialOutputOfAnotherRun, PartialOutputInUse, FileNotWritable, DiskFull.
  static absl::StatusOr<ResultFile> open(const std::string& path,
                                         int64_t numLines,
                                         const std::string& fingerprint);

  ResultFile() = default;
  ResultFile(ResultFile&& other) noexcept;
  ResultFile& operator=(ResultFile&& other) noexcept;
  ~ResultFile();

  bool isDone(int64_t index) const { return places_[index].sizeBytes > 0; }

  int64_t numDone() const { return numDone_; }

  /// Adds the line of a prompt (no line end in it) to the partial file.
  /// Errors  FileNotWritable, DiskFull.
  absl::Status add(int64_t index, absl::string_view line);

  /// Writes all lines in input order to the path and removes the partial file.
  /// Errors  FileNotWritable, DiskFull; the partial file is then still there.
  absl::Status finish();

  const std::string& partialPath() const { return partialPath_; }

private:
  struct Place {
    int64_t offset = 0;
    int64_t sizeBytes = 0;
  };

  absl::Status readPartial(const std::string& fingerprint);
  absl::Status writeAtEnd(const std::string& text);

  std::string path_;
  std::string partialPath_;
  int fd_ = -1;
  int64_t endOffset_ = 0;
  int64_t numDone_ = 0;
  std::vector<Place> places_;
};

} // namespace llmrt
