// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the elements of one logical parameter as float, from
// a weight file or from its initialiser. It knows nothing of ranks, boxes and
// layouts.
#pragma once

#include "runtime/io/WeightSource.h"
#include "runtime/kernels/KernelAbi.h"
#include "runtime/plan/PlanFile.h"

#include <memory>
#include <optional>

namespace llmrt {

/// Elements that lie in the file as a kernel could read them.
struct StoredRows {
  const uint8_t* data; // element (row, col) that was asked for
  DType dtype;         // F32 or BF16
  int64_t rowStride;   // in elements
};

/// A tensor as a matrix: all dimensions but the last are rows; one dimension is
/// one row. Calls come from many threads.
class ParameterReader {
public:
  virtual ~ParameterReader() = default;
  /// Writes element (row + i, col + j) to out[i * outStride + j].
  virtual absl::Status read(int64_t row, int64_t numRows, int64_t col,
                            int64_t numCols, float* out,
                            int64_t outStride) const = 0;

  /// Returns where elements from (row, col) on lie, if they lie row by row in
  /// f32 or bf16 at an address that is a multiple of their size.
  virtual std::optional<StoredRows> stored(int64_t row, int64_t col) const {
    return std::nullopt;
  }

  /// Returns where the block of `type` from (row, col) on lies, if elements lie
  /// row by row in such blocks and one begins there; else null.
  virtual const uint8_t* storedBlocks(SourceType type, int64_t row,
                                      int64_t col) const {
    return nullptr;
  }
};

/// Makes the reader of a tensor in a weight file.
/// Errors  TensorNotFound, WeightShapeMismatch, TensorTypeUnsupported.
absl::StatusOr<std::unique_ptr<ParameterReader>>
createFileReader(const fb::Parameter& parameter, const WeightSource& source);

/// Makes the reader of a parameter's initialiser. Errors  WeightNotInitialised.
absl::StatusOr<std::unique_ptr<ParameterReader>>
createInitReader(const fb::Parameter& parameter, uint64_t seed);

} // namespace llmrt
