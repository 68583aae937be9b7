// SPDX-License-Identifier: Apache-2.0
// Reading a checkpoint: verified, by logical tensor, any part of it by any
// rank, on whatever mesh. And finding the newest one that is whole.
#pragma once

#include "runtime/base/MappedFile.h"
#include "runtime/checkpoint/CheckpointFormat.h"
#include "runtime/checkpoint/RankGroup.h"

#include "absl/container/flat_hash_map.h"

#include <atomic>
#include <memory>

namespace llmrt {

struct OpenCheckpointOptions {
  /// Verifies the checksum of every kChecksumBytes of a tensor when one of its
  /// bytes is read for the first time.
  bool verifyChecksums = true;
};

/// Files are memory-mapped; they must not be cut short while it is open.
/// Reading is safe from many threads.
class Checkpoint {
public:
  /// Opens a folder step-XXXXXXXX: verifies checkpoint.json, that all files are
  /// there with their sizes, and that their headers say the same.
  /// Errors  CheckpointNotFound (no checkpoint.json), CheckpointCorrupt,
  ///         CheckpointTooNew, FileNotReadable.
  static absl::StatusOr<std::unique_ptr<Checkpoint>>
  open(const std::string& path, const OpenCheckpointOptions& options = {});

  const std::string& path() const { return path_; }

  const CheckpointMeta& meta() const { return meta_; }

  /// In file order.
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }

  /// Returns the tensor, or nullptr.
  const CheckpointTensor* find(absl::string_view name) const;

  /// Returns the tensor if it is there with this shape.
  /// Errors  CheckpointMismatch, naming the checkpoint, the tensor and shapes.
  absl::StatusOr<const CheckpointTensor*>
  require(absl::string_view name, absl::Span<const int64_t> shape) const;

  /// Reads elements [elementOffset, + out.size()) of the flattened tensor.
  /// Errors  CheckpointMismatch (no such tensor), CheckpointCorrupt (checksum;
  ///         names file and tensor), OutOfRange.
  absl::Status read(absl::string_view tensor, int64_t elementOffset,
                    absl::Span<float> out) const;

  /// Reads element (rowBegin + i, colBegin + j) to out[i * rowStride + j].
  /// Errors  as read().
  absl::Status readBox(absl::string_view tensor, const CheckpointBox& box,
                       float* out) const;

  /// Verifies the share of rank `rank` of `size`: all ranks together verify
  /// every byte. Errors  CheckpointCorrupt.
  absl::Status verifyShare(int rank, int size) const;

private:
  Checkpoint() = default;
  absl::Status openFiles(CheckpointLayout& layout);
  absl::Status addTensors(int file, const SafetensorsContents& contents,
                          CheckpointLayout& layout);
  absl::Status readRun(int tensor, int64_t elementOffset, int64_t numElements,
                       float* out) const;
  absl::Status verifyChunk(int tensor, int64_t chunk) const;

  struct Entry {
    SourceTensor source; // points into a mapped file
    int file = 0;
    std::vector<uint64_t> checksums;
    std::unique_ptr<std::atomic<bool>[]> isVerified; // of each checksum
  };

  std::string path_;
  OpenCheckpointOptions options_;
  CheckpointMeta meta_;
  std::vector<MappedFile> files_;
  std::vector<CheckpointTensor> tensors_;
  std::vector<Entry> entries_; // of tensors_
  absl::flat_hash_map<std::string, int> indexByName_;
};

struct FoundCheckpoint {
  std::string path;
  int64_t step = 0;
  /// One for each newer checkpoint that was passed over: which and why. The
  /// same on all ranks.
  std::vector<std::string> messages;
};

/// Finds the newest checkpoint of `folder` of which every byte is as it was
/// written; the ranks share out the reading. Collective; `communicator` may be
/// null: one rank.
/// Errors  on all ranks the same: CheckpointNotFound (none, or no folder);
///         CheckpointCorrupt (all are damaged; says what is wrong with the
///         newest); CheckpointTooNew; those of a Communicator.
absl::StatusOr<FoundCheckpoint>
findNewestCheckpoint(const std::string& folder, Communicator* communicator);

} // namespace llmrt
