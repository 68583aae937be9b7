// SPDX-License-Identifier: Apache-2.0
// Private to export: which logical tensors of a checkpoint make up which tensor
// of the source checkpoint.
#pragma once

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/io/WeightSource.h"

namespace llmrt {

/// Rows [rowBegin, + rows of the tensor) of a source tensor, before it is
/// transposed for storage.
struct SourcePiece {
  const CheckpointTensor* tensor;
  int64_t rowBegin = 0;
};

/// One tensor of the file to write.
struct ExportTensor {
  std::string name;
  SourceType dtype = SourceType::F32;
  std::vector<int64_t> shape; // as stored: [in, out] if transposed
  bool isTransposed = false;
  int64_t headRows = 0; // >0: of heads whose halves are in turn, to be parted
  std::vector<SourcePiece> pieces; // in row order, without gaps
};

/// Inverts CheckpointMeta::sources for the parameters of a checkpoint. A
/// parameter without an entry has its logical name.
/// Errors  ExportMapInvalid: rows missing or given twice, pieces that do not
///         fit together.
absl::StatusOr<std::vector<ExportTensor>>
invertSources(const Checkpoint& checkpoint);

/// Compares with the weights that training started from.
/// Errors  ExportMapInvalid: no such tensor, or of another shape.
absl::Status checkAgainstSource(const std::vector<ExportTensor>& tensors,
                                const WeightSource& source);

} // namespace llmrt
