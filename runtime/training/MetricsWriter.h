// SPDX-License-Identifier: Apache-2.0
// --metrics=FILE: one JSON object a line, one line a step. A run that resumes
// continues the file where its checkpoint stood.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace llmrt {

using MetricValue = std::variant<int64_t, double, bool, std::string>;
using Metric = std::pair<std::string, MetricValue>;

/// Returns {"step":3,"loss":2.5} with the fields in this order. A double is
/// written with the fewest digits that give it back; what is not finite, which
/// JSON cannot hold, as null.
std::string metricsLine(int64_t step, absl::Span<const Metric> metrics);

class MetricsWriter {
public:
  /// Makes an empty file, in place of one with metrics that may be there.
  /// Errors  MetricsFileMalformed: it holds something else, and is as it was;
  ///         FileNotReadable, FileNotWritable, DiskFull.
  static absl::StatusOr<MetricsWriter> create(const std::string& path);

  /// Continues a file after step `step`: drops the lines of later steps, which
  /// the interrupted run wrote after its last checkpoint, and a last line that
  /// it did not end. A file that is not there is made.
  /// Errors  MetricsFileMalformed, names the line; FileNotReadable,
  ///         FileNotWritable, DiskFull. The file is then as it was.
  static absl::StatusOr<MetricsWriter> resume(const std::string& path,
                                              int64_t step);

  MetricsWriter(MetricsWriter&& other) noexcept;
  MetricsWriter& operator=(MetricsWriter&& other) noexcept;
  ~MetricsWriter();

  /// Adds a line; it is in the file when this returns.
  /// Errors  FileNotWritable, DiskFull.
  absl::Status write(int64_t step, absl::Span<const Metric> metrics);

private:
  MetricsWriter() = default;
  static absl::StatusOr<MetricsWriter> openAt(const std::string& path,
                                              int flags);

  int fd_ = -1;
  std::string path_;
};

} // namespace llmrt
