// SPDX-License-Identifier: Apache-2.0
// The partial file: a line {"llmrt_partial": fingerprint}, then
// "INDEX<tab>LINE" lines. Only whole lines count: a run that was killed in
// mid-write leaves a last one without its end, which is cut off.
#include "runtime/generation/ResultFile.h"

#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/io/AtomicFile.h"

#include "absl/strings/numbers.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

namespace llmrt {
namespace {

std::string headerLine(const std::string& fingerprint) {
  return absl::StrCat("{\"llmrt_partial\": \"", fingerprint, "\"}\n");
}

} // namespace

ResultFile::ResultFile(ResultFile&& other) noexcept {
  *this = std::move(other);
}

ResultFile& ResultFile::operator=(ResultFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(partialPath_, other.partialPath_);
  std::swap(fd_, other.fd_);
  std::swap(endOffset_, other.endOffset_);
  std::swap(numDone_, other.numDone_);
  std::swap(places_, other.places_);
  return *this;
}

ResultFile::~ResultFile() {
  if (fd_ >= 0)
    ::close(fd_);
}

absl::StatusOr<ResultFile> ResultFile::open(const std::string& path,
                                            int64_t numLines,
                                            const std::string& fingerprint) {
  // Whether the output can be written is asked before the work, not after it.
  LLMRT_RETURN_IF_ERROR(AtomicFile::create(path).status());
  ResultFile file;
  file.path_ = path;
  file.partialPath_ = path + ".partial";
  file.places_.resize(numLines);
  file.fd_ =
      ::open(file.partialPath_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file.fd_ < 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot create",
                           file.partialPath_);
  if (::flock(file.fd_, LOCK_EX | LOCK_NB) != 0)
    return makeError(ErrorCode::PartialOutputInUse,
                     absl::StrCat("another run writes ", file.partialPath_),
                     "wait for it, or choose another --output");
  LLMRT_RETURN_IF_ERROR(file.readPartial(fingerprint));
  return file;
}

absl::Status ResultFile::readPartial(const std::string& fingerprint) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile map, MappedFile::open(partialPath_));
  absl::string_view text(reinterpret_cast<const char*>(map.bytes().data()),
                         map.bytes().size());
  std::string header = headerLine(fingerprint);
  // Nothing, or a header that the disk had no room for: a new file.
  if (text.size() < header.size() &&
      header.compare(0, text.size(), text.data(), text.size()) == 0) {
    if (::ftruncate(fd_, 0) != 0)
      return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot cut",
                             partialPath_);
    return writeAtEnd(header);
  }
  auto otherRun = [&](const char* what) {
    return makeError(ErrorCode::PartialOutputOfAnotherRun,
                     absl::StrCat(partialPath_, " ", what),
                     "run with the same plan, weights, prompts and options to "
                     "continue it, or remove it to begin again");
  };
  if (text.substr(0, header.size()) != header)
    return otherRun("was begun with another plan, input or options");
  auto at = static_cast<int64_t>(header.size());
  while (true) {
    size_t end = text.find('\n', at);
    if (end == absl::string_view::npos)
      break;
    absl::string_view line = text.substr(at, end - at);
    size_t tab = line.find('\t');
    int64_t index = -1;
    if (tab == absl::string_view::npos || tab + 1 == line.size() ||
        !absl::SimpleAtoi(line.substr(0, tab), &index) || index < 0 ||
        index >= static_cast<int64_t>(places_.size()))
      return otherRun("has a line that no run of this input wrote");
    numDone_ += places_[index].sizeBytes == 0;
    places_[index] = {at + static_cast<int64_t>(tab) + 1,
                      static_cast<int64_t>(line.size() - tab) - 1};
    at = static_cast<int64_t>(end) + 1;
  }
  endOffset_ = at;
  if (::ftruncate(fd_, at) != 0)
    return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot cut",
                           partialPath_);
  return absl::OkStatus();
}

absl::Status ResultFile::writeAtEnd(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    ssize_t count = ::pwrite(fd_, text.data() + done, text.size() - done,
                             endOffset_ + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0) {
      int error = count < 0 ? errno : ENOSPC;
      // Whole lines only, so that the file can be continued.
      (void)!::ftruncate(fd_, endOffset_);
      return makeSystemError(ErrorCode::FileNotWritable, error, "cannot write",
                             partialPath_);
    }
    done += static_cast<size_t>(count);
  }
  endOffset_ += static_cast<int64_t>(text.size());
  return absl::OkStatus();
}

absl::Status ResultFile::add(int64_t index, absl::string_view line) {
  std::string prefix = absl::StrCat(index, "\t");
  int64_t begin = endOffset_ + static_cast<int64_t>(prefix.size());
  LLMRT_RETURN_IF_ERROR(writeAtEnd(absl::StrCat(prefix, line, "\n")));
  numDone_ += places_[index].sizeBytes == 0;
  places_[index] = {begin, static_cast<int64_t>(line.size())};
  return absl::OkStatus();
}

absl::Status ResultFile::finish() {
  LLMRT_ASSIGN_OR_RETURN(MappedFile map, MappedFile::open(partialPath_));
  LLMRT_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path_));
  for (const Place& place : places_) {
    LLMRT_RETURN_IF_ERROR(
        file.append(map.bytes().subspan(static_cast<size_t>(place.offset),
                                        static_cast<size_t>(place.sizeBytes))));
    LLMRT_RETURN_IF_ERROR(file.append("\n"));
  }
  LLMRT_RETURN_IF_ERROR(file.commit());
  ::unlink(partialPath_.c_str());
  return absl::OkStatus();
}

} // namespace llmrt
