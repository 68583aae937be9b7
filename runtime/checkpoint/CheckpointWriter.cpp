// SPDX-License-Identifier: Apache-2.0
// Writing elements at their places. Making a whole checkpoint of them is
// CommitCheckpoint.cpp's work.
#include "runtime/checkpoint/CheckpointWriter.h"

#include "runtime/base/Error.h"
#include "runtime/checkpoint/CheckpointFolder.h"
#include "runtime/io/Dequantize.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace llmrt {
namespace {

constexpr int64_t kBufferElements = 1 << 20;

absl::Status folderLost(const std::string& path) {
  return makeError(ErrorCode::CheckpointFolderLost,
                   absl::StrCat("a file of the checkpoint that is being "
                                "written is gone: ",
                                path),
                   "put the checkpoint folder on a file system that all hosts "
                   "share, and let nobody else write there");
}

} // namespace

absl::StatusOr<std::unique_ptr<CheckpointWriter>>
CheckpointWriter::begin(const CheckpointRequest& request,
                        Communicator* communicator) {
  std::unique_ptr<CheckpointWriter> writer(
      new CheckpointWriter(request, communicator));
  writer->partialPath_ = absl::StrCat(request.folder, "/",
                                      partialCheckpointName(request.meta.step));
  auto layout = layOutCheckpoint(request.tensors, request.maxFileBytes);
  absl::Status status = layout.status();
  if (layout.ok()) {
    writer->layout_ = *std::move(layout);
    writer->fds_.assign(writer->layout_.files.size(), -1);
    if (writer->ranks_.rank() == 0)
      status = writer->createFiles();
  }
  LLMRT_RETURN_IF_ERROR(writer->ranks_.agree(status, "begin of a checkpoint"));
  const std::vector<PlacedTensor>& tensors = writer->layout_.tensors;
  for (size_t i = 0; i < tensors.size(); ++i)
    writer->tensorByName_[tensors[i].tensor.name] = static_cast<int>(i);
  writer->writtenElements_.assign(tensors.size(), 0);
  return writer;
}

CheckpointWriter::~CheckpointWriter() {
  for (int fd : fds_)
    if (fd >= 0)
      close(fd);
  std::error_code ignored;
  if (ranks_.rank() == 0 && !isCommitted_)
    std::filesystem::remove_all(partialPath_, ignored);
}

std::string CheckpointWriter::pathOf(int file) const {
  return absl::StrCat(partialPath_, "/", layout_.files[file].name);
}

absl::Status CheckpointWriter::createFiles() {
  LLMRT_RETURN_IF_ERROR(makeFolders(request_.folder));
  LLMRT_RETURN_IF_ERROR(removePartialCheckpoints(request_.folder));
  LLMRT_RETURN_IF_ERROR(makeFolders(partialPath_));
  for (size_t i = 0; i < layout_.files.size(); ++i)
    LLMRT_RETURN_IF_ERROR(createFile(layout_.files[i], fds_[i]));
  return absl::OkStatus();
}

// Reserves the space, so that a full disk is known before anything is written.
absl::Status CheckpointWriter::createFile(const CheckpointFile& file, int& fd) {
  const std::string path = absl::StrCat(partialPath_, "/", file.name);
  fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot create",
                           path);
  bool isReserved = fallocate(fd, 0, 0, file.sizeBytes) == 0;
  if (!isReserved && errno != EOPNOTSUPP && errno != ENOSYS)
    return makeSystemError(ErrorCode::FileNotWritable, errno,
                           "cannot reserve space", path);
  if (!isReserved && ftruncate(fd, file.sizeBytes) != 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno,
                           "cannot reserve space", path);
  return writeFully(fd, file.header.data(),
                    static_cast<int64_t>(file.header.size()), 0, path);
}

absl::StatusOr<int> CheckpointWriter::openFile(int file) {
  if (fds_[file] >= 0)
    return fds_[file];
  const std::string path = pathOf(file);
  fds_[file] = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fds_[file] >= 0)
    return fds_[file];
  return errno == ENOENT ? folderLost(path)
                         : makeSystemError(ErrorCode::FileNotWritable, errno,
                                           "cannot open", path);
}

absl::Status CheckpointWriter::keepError(absl::Status status) {
  if (status_.ok())
    status_ = std::move(status);
  return status_;
}

absl::Status CheckpointWriter::write(absl::string_view tensor,
                                     int64_t elementOffset,
                                     absl::Span<const float> values) {
  LLMRT_RETURN_IF_ERROR(status_);
  auto found = tensorByName_.find(tensor);
  auto count = static_cast<int64_t>(values.size());
  if (found == tensorByName_.end() || elementOffset < 0 ||
      elementOffset >
          *countElements(layout_.tensors[found->second].tensor.shape) - count)
    return keepError(absl::InvalidArgumentError(
        absl::StrCat("elements ", elementOffset, " to ", elementOffset + count,
                     " of tensor ", tensor, " are not in the checkpoint")));
  return writeRun(found->second, elementOffset, values.data(), count);
}

absl::Status CheckpointWriter::writeBox(absl::string_view tensor,
                                        const CheckpointBox& box,
                                        const float* values) {
  LLMRT_RETURN_IF_ERROR(status_);
  auto found = tensorByName_.find(tensor);
  int64_t firstElement = -1, cols = 0;
  if (found != tensorByName_.end()) {
    const std::vector<int64_t>& shape =
        layout_.tensors[found->second].tensor.shape;
    firstElement = firstElementOf(box, shape);
    cols = shape.empty() ? 1 : shape.back();
  }
  if (firstElement < 0)
    return keepError(absl::InvalidArgumentError(absl::StrCat(
        "rows ", box.rowBegin, " to ", box.rowBegin + box.numRows, ", columns ",
        box.colBegin, " to ", box.colBegin + box.numCols, " of tensor ", tensor,
        " are not in the checkpoint")));
  bool isOneRun = box.numCols == cols && box.rowStride == cols;
  if (isOneRun)
    return writeRun(found->second, firstElement, values, box.numRows * cols);
  for (int64_t i = 0; i < box.numRows; ++i)
    LLMRT_RETURN_IF_ERROR(writeRun(found->second, firstElement + i * cols,
                                   values + i * box.rowStride, box.numCols));
  return absl::OkStatus();
}

absl::Status CheckpointWriter::writeRun(int tensor, int64_t elementOffset,
                                        const float* values,
                                        int64_t numElements) {
  const PlacedTensor& placed = layout_.tensors[tensor];
  absl::StatusOr<int> fd = openFile(placed.file);
  if (!fd.ok())
    return keepError(fd.status());
  writtenElements_[tensor] += static_cast<uint64_t>(numElements);
  if (placed.tensor.dtype == SourceType::F32)
    return keepError(writeFully(*fd, values, numElements * 4,
                                placed.offsetBytes + elementOffset * 4,
                                pathOf(placed.file)));
  for (int64_t done = 0; done < numElements; done += kBufferElements) {
    int64_t count = std::min(kBufferElements, numElements - done);
    buffer_.resize(static_cast<size_t>(count) * 2);
    convertToBf16(values + done, count,
                  reinterpret_cast<uint16_t*>(buffer_.data()));
    LLMRT_RETURN_IF_ERROR(keepError(writeFully(
        *fd, buffer_.data(), count * 2,
        placed.offsetBytes + (elementOffset + done) * 2, pathOf(placed.file))));
  }
  return absl::OkStatus();
}

absl::Status CheckpointWriter::syncAndClose() {
  absl::Status status = status_;
  for (size_t i = 0; i < fds_.size(); ++i) {
    if (fds_[i] < 0)
      continue;
    if (status.ok() && fsync(fds_[i]) != 0)
      status = makeSystemError(ErrorCode::FileNotWritable, errno, "cannot sync",
                               pathOf(static_cast<int>(i)));
    if (close(fds_[i]) != 0 && status.ok())
      status = makeSystemError(ErrorCode::FileNotWritable, errno,
                               "cannot close", pathOf(static_cast<int>(i)));
    fds_[i] = -1;
  }
  return status;
}

} // namespace llmrt
