// SPDX-License-Identifier: Apache-2.0
// Saves a checkpoint, all ranks in parallel. Rank 0 makes the files under a
// hidden name, every rank writes its own elements at their places, the ranks
// share out the checksums, and rank 0 renames the folder: a run that is killed
// at any moment leaves the checkpoints that it had, or the new one too.
#pragma once

#include "runtime/checkpoint/CheckpointFormat.h"
#include "runtime/checkpoint/RankGroup.h"

#include "absl/container/flat_hash_map.h"

#include <memory>

namespace llmrt {

struct CheckpointRequest {
  std::string folder; // of checkpoints; seen by all ranks under this name
  CheckpointMeta meta;
  std::vector<CheckpointTensor> tensors; // all, on every rank
  /// How many complete checkpoints of this step or earlier remain; 0: all.
  int keep = 0;
  int64_t maxFileBytes = kMaxCheckpointFileBytes;
};

struct CheckpointResult {
  std::string path;
  int64_t sizeBytes = 0;
  /// What went wrong after the checkpoint was safe: an old one that could not
  /// be deleted. Rank 0's.
  std::vector<std::string> messages;
};

/// One thread of each rank uses it. begin() and commit() are collective; every
/// element of every tensor is written exactly once between them, by any rank.
class CheckpointWriter {
public:
  /// Makes the files. `communicator` may be null: one rank.
  /// Errors  on all ranks the same: FileNotWritable, DiskFull (the whole size
  ///         is reserved here); InvalidArgument for tensors that a checkpoint
  ///         cannot hold; those of a Communicator. Nothing is then left.
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>>
  begin(const CheckpointRequest& request, Communicator* communicator);

  /// Removes what was written, unless commit() returned ok.
  ~CheckpointWriter();

  /// Writes elements [elementOffset, + values.size()) of the flattened tensor,
  /// rounded to its type.
  /// Errors  FileNotWritable, DiskFull, CheckpointFolderLost, InvalidArgument
  ///         (no such tensor, outside it). The first one is kept and returned
  ///         by commit() on all ranks, so a caller may leave it unread.
  absl::Status write(absl::string_view tensor, int64_t elementOffset,
                     absl::Span<const float> values);

  /// Writes values[i * rowStride + j] to element (rowBegin + i, colBegin + j).
  /// Errors  as write().
  absl::Status writeBox(absl::string_view tensor, const CheckpointBox& box,
                        const float* values);

  /// Makes the checkpoint visible and deletes the oldest beyond `keep`. Every
  /// rank calls it, also after an error.
  /// Errors  on all ranks the same, with the rank that had it: those of
  ///         write(); InvalidArgument if an element was not written; those of
  ///         a Communicator. Nothing is then left of this checkpoint.
  absl::StatusOr<CheckpointResult> commit();

private:
  CheckpointWriter(const CheckpointRequest& request, Communicator* communicator)
      : request_(request), ranks_(communicator) {}

  struct Chunk {
    int tensor;
    int64_t index;
  };

  absl::Status createFiles();
  absl::Status createFile(const CheckpointFile& file, int& fd);
  absl::StatusOr<int> openFile(int file);
  absl::Status keepError(absl::Status status);
  absl::Status writeRun(int tensor, int64_t elementOffset, const float* values,
                        int64_t numElements);
  absl::Status syncAndClose();
  absl::Status checkAllWritten();
  std::vector<std::vector<Chunk>> shareOutChunks() const;
  absl::Status checksumFiles();
  absl::StatusOr<uint64_t> checksumOf(const Chunk& chunk);
  absl::Status finishFolder();
  void deleteOldCheckpoints(CheckpointResult& result);
  std::string pathOf(int file) const;

  CheckpointRequest request_;
  RankGroup ranks_;
  CheckpointLayout layout_;
  absl::flat_hash_map<std::string, int> tensorByName_;
  std::string partialPath_;
  std::vector<int> fds_;                  // of layout_.files; -1: not open
  std::vector<uint64_t> writtenElements_; // of each tensor, by this rank
  std::vector<uint8_t> buffer_;
  absl::Status status_;
  bool isCommitted_ = false;
};

} // namespace llmrt
