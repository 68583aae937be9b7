// SPDX-License-Identifier: Apache-2.0
// The first failure removes the temporary file and is returned by all later
// calls, so that a writer need not look at each one.
#include "runtime/io/AtomicFile.h"

#include "runtime/base/Error.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace llmrt {
namespace {

constexpr size_t kBufferBytes = 256 * 1024;

std::string folderOf(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos)
    return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Follows symbolic links of an existing file, so that the rename replaces what
// the link names and not the link.
std::string followLinks(const std::string& path) {
  std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr),
                                              &free);
  return real ? std::string(real.get()) : path;
}

} // namespace

absl::StatusOr<AtomicFile> AtomicFile::create(const std::string& path) {
  static std::atomic<uint64_t> counter = 0;
  AtomicFile file;
  file.path_ = followLinks(path);
  struct stat info = {};
  if (stat(file.path_.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return makeError(ErrorCode::FileNotWritable, "not a regular file: " + path,
                     "name a file that may be replaced");
  file.temporaryPath_ =
      absl::StrCat(file.path_, ".tmp.", getpid(), ".", counter++);
  file.fd_ = open(file.temporaryPath_.c_str(),
                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.fd_ < 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot create",
                           path);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept {
  *this = std::move(other);
}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporaryPath_, other.temporaryPath_);
  std::swap(fd_, other.fd_);
  std::swap(sizeBytes_, other.sizeBytes_);
  std::swap(buffer_, other.buffer_);
  std::swap(status_, other.status_);
  return *this;
}

AtomicFile::~AtomicFile() { abandon(); }

absl::Status AtomicFile::append(absl::Span<const uint8_t> bytes) {
  LLMRT_RETURN_IF_ERROR(status_);
  if (buffer_.size() + bytes.size() > kBufferBytes)
    LLMRT_RETURN_IF_ERROR(flush());
  if (bytes.size() > kBufferBytes)
    LLMRT_RETURN_IF_ERROR(writeAll(sizeBytes_, bytes.data(), bytes.size()));
  else
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  sizeBytes_ += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status AtomicFile::append(absl::string_view text) {
  return append(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

absl::Status AtomicFile::overwrite(int64_t offsetBytes,
                                   absl::Span<const uint8_t> bytes) {
  LLMRT_RETURN_IF_ERROR(status_);
  LLMRT_RETURN_IF_ERROR(flush());
  return writeAll(offsetBytes, bytes.data(), bytes.size());
}

absl::Status AtomicFile::commit() {
  LLMRT_RETURN_IF_ERROR(status_);
  LLMRT_RETURN_IF_ERROR(flush());
  if (fsync(fd_) != 0)
    return fail(errno, "cannot sync");
  int fd = std::exchange(fd_, -1);
  if (close(fd) != 0)
    return fail(errno, "cannot close");
  if (rename(temporaryPath_.c_str(), path_.c_str()) != 0)
    return fail(errno, "cannot rename to");
  temporaryPath_.clear();
  status_ = absl::FailedPreconditionError("the file is already committed");
  // The file is whole now; a folder that cannot be synced (some network file
  // systems) is no reason to call it failed.
  int folder =
      open(folderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::flush() {
  if (buffer_.empty())
    return absl::OkStatus();
  int64_t offsetBytes = sizeBytes_ - static_cast<int64_t>(buffer_.size());
  LLMRT_RETURN_IF_ERROR(writeAll(offsetBytes, buffer_.data(), buffer_.size()));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status AtomicFile::writeAll(int64_t offsetBytes, const uint8_t* data,
                                  size_t count) {
  while (count > 0) {
    ssize_t written = pwrite(fd_, data, count, offsetBytes);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return fail(written < 0 ? errno : ENOSPC, "cannot write");
    data += written;
    offsetBytes += written;
    count -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::fail(int errnum, absl::string_view doing) {
  status_ = makeSystemError(ErrorCode::FileNotWritable, errnum,
                            std::string(doing), path_);
  abandon();
  return status_;
}

void AtomicFile::abandon() {
  if (fd_ >= 0)
    close(std::exchange(fd_, -1));
  if (!temporaryPath_.empty())
    unlink(temporaryPath_.c_str());
  temporaryPath_.clear();
  buffer_.clear();
}

} // namespace llmrt
