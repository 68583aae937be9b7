// SPDX-License-Identifier: Apache-2.0
// The table behind the error codes.
#include "runtime/base/Error.h"

#include "absl/strings/str_format.h"

#include <cerrno>
#include <cstring>

namespace llmrt {
namespace {

absl::StatusCode statusCodeOf(ErrorCode code) {
  switch (code) {
#define LLMC_ERROR(number, name, status)                                       \
  case ErrorCode::name:                                                        \
    return absl::StatusCode::k##status;
#include "runtime/base/Errors.def"
#undef LLMC_ERROR
  }
  return absl::StatusCode::kInternal;
}

} // namespace

std::string errorCodeName(ErrorCode code) {
  return absl::StrFormat("LLMC-E%04d", static_cast<int>(code));
}

absl::Status makeError(ErrorCode code, std::string_view what,
                       std::string_view advice) {
  std::string text = absl::StrCat(errorCodeName(code), ": ",
                                  absl::string_view(what.data(), what.size()));
  if (!advice.empty())
    absl::StrAppend(&text, "; ",
                    absl::string_view(advice.data(), advice.size()));
  return absl::Status(statusCodeOf(code), text);
}

absl::Status makeSystemError(ErrorCode code, int errnum, std::string_view doing,
                             std::string_view path) {
  bool isFull = errnum == ENOSPC || errnum == EDQUOT;
  std::string what(doing);
  what += ": ";
  what += std::strerror(errnum);
  what += ": ";
  what += path;
  return makeError(isFull ? ErrorCode::DiskFull : code, what,
                   isFull ? "free space on that disk and run again"
                          : "check the path and its permissions");
}

} // namespace llmrt
