// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/CheckpointFolder.h"

#include "runtime/base/Error.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace llmrt {
namespace {

constexpr absl::string_view kPrefix = "step-";
constexpr absl::string_view kPartialSuffix = ".partial";
constexpr size_t kFewestDigits = 8;

absl::Status notWritable(int errnum, absl::string_view doing,
                         const std::string& path) {
  return makeSystemError(ErrorCode::FileNotWritable, errnum, std::string(doing),
                         path);
}

absl::Status removeTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? notWritable(error.value(), "cannot delete", path)
               : absl::OkStatus();
}

bool isPartialName(absl::string_view name) {
  return absl::ConsumePrefix(&name, ".") && absl::StartsWith(name, kPrefix) &&
         absl::EndsWith(name, kPartialSuffix);
}

// Changes places, or nothing where the file system cannot.
bool exchange(const std::string& from, const std::string& to) {
  return renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                   RENAME_EXCHANGE) == 0;
}

} // namespace

std::string checkpointName(int64_t step) {
  return absl::StrFormat("step-%08d", step);
}

std::string partialCheckpointName(int64_t step) {
  return absl::StrCat(".", checkpointName(step), kPartialSuffix);
}

std::vector<int64_t> listCheckpointSteps(const std::string& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    absl::string_view digits = name;
    int64_t step = 0;
    if (!absl::ConsumePrefix(&digits, kPrefix) ||
        digits.size() < kFewestDigits ||
        !std::all_of(digits.begin(), digits.end(),
                     [](unsigned char c) { return std::isdigit(c); }) ||
        !absl::SimpleAtoi(digits, &step) || checkpointName(step) != name)
      continue;
    std::error_code ignored;
    if (it->is_directory(ignored))
      steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::Status makeFolders(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  return error ? notWritable(error.value(), "cannot create folder", folder)
               : absl::OkStatus();
}

absl::Status removePartialCheckpoints(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error))
    if (isPartialName(it->path().filename().string()))
      paths.push_back(it->path().string());
  for (const std::string& path : paths)
    LLMRT_RETURN_IF_ERROR(removeTree(path));
  return absl::OkStatus();
}

absl::Status removeCheckpoint(const std::string& folder, int64_t step) {
  const std::string path = absl::StrCat(folder, "/", checkpointName(step));
  const std::string hidden =
      absl::StrCat(folder, "/", partialCheckpointName(step));
  if (rename(path.c_str(), hidden.c_str()) != 0)
    return notWritable(errno, "cannot delete", path);
  return removeTree(hidden);
}

absl::Status publishFolder(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0)
    return absl::OkStatus();
  if (errno != ENOTEMPTY && errno != EEXIST)
    return notWritable(errno, "cannot rename to", to);
  if (exchange(from, to)) {
    (void)removeTree(from); // else the next save removes it, or says why not
    return absl::OkStatus();
  }
  // Some network file systems cannot exchange. Then there is a moment in which
  // the step is absent; the checkpoints before it are not.
  const std::string old = from + ".replaced" + std::string(kPartialSuffix);
  if (rename(to.c_str(), old.c_str()) != 0)
    return notWritable(errno, "cannot replace", to);
  if (rename(from.c_str(), to.c_str()) != 0) {
    int errnum = errno;
    rename(old.c_str(), to.c_str());
    return notWritable(errnum, "cannot rename to", to);
  }
  (void)removeTree(old);
  return absl::OkStatus();
}

absl::Status syncFolder(const std::string& folder) {
  int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return notWritable(errno, "cannot open folder", folder);
  // EINVAL: this file system does not sync folders.
  int errnum = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
  close(fd);
  return errnum == 0 ? absl::OkStatus()
                     : notWritable(errnum, "cannot sync folder", folder);
}

absl::Status writeFully(int fd, const void* data, int64_t sizeBytes,
                        int64_t offsetBytes, const std::string& path) {
  auto bytes = static_cast<const uint8_t*>(data);
  while (sizeBytes > 0) {
    ssize_t written = pwrite(fd, bytes, sizeBytes, offsetBytes);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return notWritable(written < 0 ? errno : ENOSPC, "cannot write", path);
    bytes += written;
    offsetBytes += written;
    sizeBytes -= written;
  }
  return absl::OkStatus();
}

absl::Status writeSmallFile(const std::string& path, absl::string_view text) {
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0)
    return notWritable(errno, "cannot create", path);
  absl::Status status =
      writeFully(fd, text.data(), static_cast<int64_t>(text.size()), 0, path);
  if (status.ok() && fsync(fd) != 0)
    status = notWritable(errno, "cannot sync", path);
  if (close(fd) != 0 && status.ok())
    status = notWritable(errno, "cannot close", path);
  return status;
}

} // namespace llmrt
