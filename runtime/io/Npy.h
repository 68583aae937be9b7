// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files: writing a matrix row by row, as --output-logits does, and
// reading an array, as tests do. Format:
// numpy.org/doc/stable/reference/generated/numpy.lib.format
#pragma once

#include "runtime/io/AtomicFile.h"
#include "runtime/io/SourceTensor.h"

namespace llmrt {

/// Writes a float32 or int32 matrix [rows, numColumns], streaming. Nothing
/// exists at the path before finish().
class NpyWriter {
public:
  /// `type` is F32 or I32.
  /// Errors  FileNotWritable, DiskFull; InvalidArgument for another type.
  static absl::StatusOr<NpyWriter> create(const std::string& path,
                                          SourceType type, int64_t numColumns);

  /// Adds one row of numColumns elements of the type given to create().
  /// Errors  FileNotWritable, DiskFull; InvalidArgument for another length or
  ///         type.
  absl::Status appendRow(absl::Span<const float> row);
  absl::Status appendRow(absl::Span<const int32_t> row);

  /// Writes the number of rows into the header and makes the file appear.
  /// Errors  FileNotWritable, DiskFull.
  absl::Status finish();

private:
  absl::Status appendBytes(SourceType type, const void* data, size_t count);
  std::string headerText() const;

  AtomicFile file_;
  SourceType type_ = SourceType::F32;
  int64_t numColumns_ = 0;
  int64_t numRows_ = 0;
};

/// Verifies a whole .npy file (versions 1 to 3, little-endian, C order) and
/// returns its array, which points into `bytes` and has an empty name.
/// `fileName` is for messages.
/// Errors  NpyCorrupt; NpyUnsupported for Fortran order and other types.
absl::StatusOr<SourceTensor> parseNpy(absl::Span<const uint8_t> bytes,
                                      absl::string_view fileName);

} // namespace llmrt
