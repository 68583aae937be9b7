// SPDX-License-Identifier: Apache-2.0
// --tensorboard=DIR: scalars in an event file that TensorBoard reads. The file
// is a TFRecord file of Event messages of protocol buffers, of which the few
// fields that scalars need are encoded here.
//
// Source  TFRecord: tensorflow/core/lib/io/record_writer.h. Per record: u64
//         length, u32 masked CRC-32C of the length, data, u32 masked CRC-32C of
//         the data; little endian; mask(c) = rotate right by 15, + 0xa282ead8.
//         Messages: tensorflow/core/util/event.proto and
//         tensorflow/core/framework/summary.proto: Event {1 wall_time double,
//         2 step int64, 3 file_version string, 5 Summary, 7 SessionLog},
//         Summary {1 repeated Value}, Value {1 tag string, 2 simple_value
//         float}, SessionLog {1 status enum: START = 1}.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llmrt {

/// CRC-32C (Castagnoli), reflected, as in RFC 3720.
uint32_t crc32c(absl::string_view bytes);

/// Returns one TFRecord.
std::string tfRecord(absl::string_view data);

using Scalar = std::pair<std::string, double>; // tag, value

/// Returns an Event of scalars, without its record.
std::string scalarEvent(double wallSeconds, int64_t step,
                        absl::Span<const Scalar> scalars);

/// Each run writes a file of its own; TensorBoard joins those of a folder.
class TensorBoardWriter {
public:
  /// Makes `folder` if there is none, and in it
  /// events.out.tfevents.SECONDS.HOST.PROCESS.N. With `resumedStep`,
  /// TensorBoard is told to forget what earlier files say of later steps.
  /// Errors  FileNotWritable, DiskFull.
  static absl::StatusOr<TensorBoardWriter>
  create(const std::string& folder, std::optional<int64_t> resumedStep);

  TensorBoardWriter(TensorBoardWriter&& other) noexcept;
  TensorBoardWriter& operator=(TensorBoardWriter&& other) noexcept;
  ~TensorBoardWriter();

  /// Adds the scalars of a step; they are in the file when this returns. Values
  /// are stored as float. Errors  FileNotWritable, DiskFull.
  absl::Status write(int64_t step, absl::Span<const Scalar> scalars);

  const std::string& path() const { return path_; }

private:
  TensorBoardWriter() = default;
  absl::Status append(absl::string_view event);

  int fd_ = -1;
  std::string path_;
};

} // namespace llmrt
