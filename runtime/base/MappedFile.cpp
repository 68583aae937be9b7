// SPDX-License-Identifier: Apache-2.0
#include "runtime/base/MappedFile.h"

#include "runtime/base/Error.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace llmrt {

absl::StatusOr<MappedFile> MappedFile::open(const std::string& path) {
  // A pipe without a writer must not stop the process.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return makeSystemError(ErrorCode::FileNotReadable, errno, "cannot open",
                           path);
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return makeError(ErrorCode::FileNotReadable, "not a regular file: " + path,
                     "name a file");
  }
  MappedFile file;
  file.path_ = path;
  file.sizeBytes_ = static_cast<size_t>(info.st_size);
  if (file.sizeBytes_ > 0) {
    void* map = mmap(nullptr, file.sizeBytes_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
      int errnum = errno;
      close(fd);
      return makeSystemError(ErrorCode::FileNotReadable, errnum, "cannot map",
                             path);
    }
    file.data_ = static_cast<const uint8_t*>(map);
  }
  close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(sizeBytes_, other.sizeBytes_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_)
    munmap(const_cast<uint8_t*>(data_), sizeBytes_);
}

} // namespace llmrt
