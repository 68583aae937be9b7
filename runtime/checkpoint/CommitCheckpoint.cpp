// SPDX-License-Identifier: Apache-2.0
// The second half of a save: everything that makes written elements a
// checkpoint.
#include "runtime/base/Crc64.h"
#include "runtime/base/Error.h"
#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/checkpoint/CheckpointWriter.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cerrno>
#include <unistd.h>

namespace llmrt {
namespace {

constexpr const char* kSubject = "end of a checkpoint";

} // namespace

absl::StatusOr<CheckpointResult> CheckpointWriter::commit() {
  LLMRT_RETURN_IF_ERROR(ranks_.agree(syncAndClose(), kSubject));
  LLMRT_RETURN_IF_ERROR(checkAllWritten());
  LLMRT_RETURN_IF_ERROR(checksumFiles());
  absl::Status status;
  CheckpointResult result;
  result.path =
      absl::StrCat(request_.folder, "/", checkpointName(request_.meta.step));
  for (const CheckpointFile& file : layout_.files)
    result.sizeBytes += file.sizeBytes;
  if (ranks_.rank() == 0) {
    status = finishFolder();
    if (status.ok())
      deleteOldCheckpoints(result);
  }
  LLMRT_RETURN_IF_ERROR(ranks_.agree(status, kSubject));
  isCommitted_ = true;
  return result;
}

// Elements are counted, not tracked: this finds what nobody wrote, not what
// two ranks wrote.
absl::Status CheckpointWriter::checkAllWritten() {
  LLMRT_ASSIGN_OR_RETURN(std::vector<uint64_t> written,
                         ranks_.allGather(writtenElements_, kSubject));
  size_t numTensors = layout_.tensors.size();
  for (size_t i = 0; i < numTensors; ++i) {
    uint64_t sum = 0;
    for (int rank = 0; rank < ranks_.size(); ++rank)
      sum += written[rank * numTensors + i];
    const CheckpointTensor& tensor = layout_.tensors[i].tensor;
    auto wanted = static_cast<uint64_t>(*countElements(tensor.shape));
    if (sum != wanted)
      return absl::InvalidArgumentError(
          absl::StrCat(sum, " of the ", wanted, " elements of tensor ",
                       tensor.name, " were written to the checkpoint"));
  }
  return absl::OkStatus();
}

// Runs of chunks of about equal bytes, the same on every rank.
std::vector<std::vector<CheckpointWriter::Chunk>>
CheckpointWriter::shareOutChunks() const {
  int64_t totalBytes = 0;
  for (const PlacedTensor& placed : layout_.tensors)
    totalBytes += placed.sizeBytes;
  std::vector<std::vector<Chunk>> shares(ranks_.size());
  int64_t bytesPerRank = totalBytes / ranks_.size() + 1;
  int64_t cursor = 0;
  for (size_t i = 0; i < layout_.tensors.size(); ++i) {
    const PlacedTensor& placed = layout_.tensors[i];
    for (int64_t c = 0; c < placed.numChunks(); ++c)
      shares[(cursor + c * kChecksumBytes) / bytesPerRank].push_back(
          {static_cast<int>(i), c});
    cursor += placed.sizeBytes;
  }
  return shares;
}

absl::Status CheckpointWriter::checksumFiles() {
  std::vector<std::vector<Chunk>> shares = shareOutChunks();
  size_t mostChunks = 0;
  for (const std::vector<Chunk>& share : shares)
    mostChunks = std::max(mostChunks, share.size());
  std::vector<uint64_t> mine(mostChunks);
  const std::vector<Chunk>& own = shares[ranks_.rank()];
  absl::Status status;
  for (size_t i = 0; i < own.size() && status.ok(); ++i) {
    absl::StatusOr<uint64_t> checksum = checksumOf(own[i]);
    status = checksum.status();
    mine[i] = checksum.value_or(0);
  }
  if (absl::Status closed = syncAndClose(); status.ok())
    status = closed;
  LLMRT_RETURN_IF_ERROR(ranks_.agree(status, kSubject));
  LLMRT_ASSIGN_OR_RETURN(std::vector<uint64_t> all,
                         ranks_.allGather(mine, kSubject));
  for (size_t rank = 0; rank < shares.size(); ++rank)
    for (size_t i = 0; i < shares[rank].size(); ++i)
      layout_.tensors[shares[rank][i].tensor].checksums[shares[rank][i].index] =
          all[rank * mostChunks + i];
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> CheckpointWriter::checksumOf(const Chunk& chunk) {
  const PlacedTensor& placed = layout_.tensors[chunk.tensor];
  LLMRT_ASSIGN_OR_RETURN(int fd, openFile(placed.file));
  int64_t begin = chunk.index * kChecksumBytes;
  int64_t count = std::min(kChecksumBytes, placed.sizeBytes - begin);
  buffer_.resize(static_cast<size_t>(count));
  for (int64_t done = 0; done < count;) {
    ssize_t numRead = pread(fd, buffer_.data() + done, count - done,
                            placed.offsetBytes + begin + done);
    if (numRead < 0 && errno == EINTR)
      continue;
    if (numRead <= 0)
      return makeSystemError(ErrorCode::FileNotWritable,
                             numRead < 0 ? errno : EIO, "cannot read back",
                             pathOf(placed.file));
    done += numRead;
  }
  return crc64(buffer_);
}

absl::Status CheckpointWriter::finishFolder() {
  for (const auto& [name, text] : layout_.indexes)
    LLMRT_RETURN_IF_ERROR(
        writeSmallFile(absl::StrCat(partialPath_, "/", name), text));
  LLMRT_RETURN_IF_ERROR(
      writeSmallFile(absl::StrCat(partialPath_, "/", kCheckpointJson),
                     encodeCheckpointJson(request_.meta, layout_)));
  LLMRT_RETURN_IF_ERROR(syncFolder(partialPath_));
  return publishFolder(
      partialPath_,
      absl::StrCat(request_.folder, "/", checkpointName(request_.meta.step)));
}

// The checkpoint is visible by now: what fails here does not fail the save.
// Only complete ones count, so that a damaged one never displaces a good one.
void CheckpointWriter::deleteOldCheckpoints(CheckpointResult& result) {
  auto keepMessage = [&](const absl::Status& status) {
    if (!status.ok())
      result.messages.emplace_back(status.message());
    return status.ok();
  };
  if (!keepMessage(syncFolder(request_.folder)) || request_.keep <= 0)
    return;
  std::vector<int64_t> steps = listCheckpointSteps(request_.folder);
  int numKept = 0;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (*step > request_.meta.step ||
        !Checkpoint::open(
             absl::StrCat(request_.folder, "/", checkpointName(*step)))
             .ok())
      continue;
    if (++numKept > request_.keep)
      keepMessage(removeCheckpoint(request_.folder, *step));
  }
}

} // namespace llmrt
