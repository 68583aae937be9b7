// SPDX-License-Identifier: Apache-2.0
// The format of a checkpoint: what it holds, how its tensors are laid out in
// files, and its checkpoint.json. It touches no disk.
//
//   DIR/step-00000100/
//     model.safetensors       parameters, whole, by logical name
//     optimizer.safetensors   NAME.moment1, NAME.moment2
//     checkpoint.json         written last: everything else, with checksums
//
// Above the largest size of a file, a part is split as Hugging Face does:
// model-00001-of-00003.safetensors and model.safetensors.index.json. Nothing
// depends on mesh, ZeRO stage or schedule; all ranks compute the same layout.
#pragma once

#include "runtime/io/Safetensors.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace llmrt {

inline constexpr int kCheckpointVersion = 1;
inline constexpr int64_t kMaxCheckpointFileBytes = int64_t{4} << 30;
/// Bytes of a tensor that one checksum covers, so that a rank that needs a part
/// of it reads and verifies little more than this part.
inline constexpr int64_t kChecksumBytes = int64_t{16} << 20;

enum class CheckpointPart : uint8_t { Model, Optimizer };

/// A logical tensor, whole. F32 or BF16.
struct CheckpointTensor {
  std::string name; // unique over both parts
  CheckpointPart part = CheckpointPart::Model;
  SourceType dtype = SourceType::F32;
  std::vector<int64_t> shape;
};

/// Returns "NAME.moment1" or "NAME.moment2".
std::string momentName(absl::string_view name, int moment);

/// Rows x columns of a tensor: all dimensions but the last are rows; one
/// dimension is one row.
struct CheckpointBox {
  int64_t rowBegin = 0;
  int64_t numRows = 0;
  int64_t colBegin = 0;
  int64_t numCols = 0;
  int64_t rowStride = 0; // of the values in memory, in elements
};

/// Where a logical tensor lies in the checkpoint that training started from, so
/// that export can put it back. As in plan.fbs.
struct CheckpointSource {
  std::string name;          // logical
  std::string source;        // tensor of the source checkpoint
  bool isTransposed = false; // the source holds [in, out]
  int64_t rowBegin = -1;     // rows [begin, end) of the source's first
  int64_t rowEnd = -1;       // dimension (after transposition); -1: all
};

/// The state of a run beside its tensors.
struct CheckpointMeta {
  int64_t step = 0;    // steps done, skipped ones included
  int64_t updates = 0; // optimizer updates: Adam's t
  int64_t epoch = 0;
  int64_t dataPosition = 0; // samples consumed in this epoch
  int64_t tokens = 0;       // trained on so far
  uint64_t seed = 0;
  std::string options; // the command line, for people
  std::string mesh;    // it was written on; informational
  /// Whatever else a run wants back, in this order.
  std::vector<std::pair<std::string, std::string>> notes;
  std::vector<CheckpointSource> sources = {};
};

/// Returns the number of the first element of the box in the flattened tensor,
/// or -1 if the box is not inside a tensor of this shape.
int64_t firstElementOf(const CheckpointBox& box,
                       absl::Span<const int64_t> shape);

struct PlacedTensor {
  CheckpointTensor tensor;
  int file = 0;            // of CheckpointLayout::files
  int64_t offsetBytes = 0; // in the file
  int64_t sizeBytes = 0;
  std::vector<uint64_t> checksums = {}; // CRC-64/XZ of every kChecksumBytes

  int64_t numChunks() const {
    return (sizeBytes + kChecksumBytes - 1) / kChecksumBytes;
  }
};

struct CheckpointFile {
  std::string name;
  int64_t sizeBytes = 0;
  std::string header =
      {}; // what the file begins with; empty in one that was read
};

struct CheckpointLayout {
  std::vector<CheckpointFile> files;
  std::vector<PlacedTensor> tensors; // in file order
  /// Small files that are written whole: name, text.
  std::vector<std::pair<std::string, std::string>> indexes;
};

/// Lays out the tensors: those of one part follow each other, wider elements
/// first, so that all are aligned, else in the order given. A tensor is never
/// split; one above `maxFileBytes` has a file to itself.
/// Errors  InvalidArgument: a name given twice, a type that is not F32 or BF16.
absl::StatusOr<CheckpointLayout>
layOutCheckpoint(const std::vector<CheckpointTensor>& tensors,
                 int64_t maxFileBytes);

/// Returns the text of checkpoint.json, which ends in a checksum of itself.
std::string encodeCheckpointJson(const CheckpointMeta& meta,
                                 const CheckpointLayout& layout);

struct CheckpointDescription {
  CheckpointMeta meta;
  CheckpointLayout layout; // without headers, offsets and indexes
};

/// Reads checkpoint.json. `path` is for messages.
/// Errors  CheckpointCorrupt, CheckpointTooNew.
absl::StatusOr<CheckpointDescription>
decodeCheckpointJson(absl::Span<const uint8_t> bytes, absl::string_view path);

/// Makes the error of a damaged checkpoint file.
absl::Status checkpointCorrupt(absl::string_view path, absl::string_view what);

} // namespace llmrt
