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

/// Bytes of the UTF-8 character that begins here; 0 if none does.
size_t utf8Length(absl::string_view text) {
  auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  size_t length = byte(0) < 0x80                      ? 1
                  : byte(0) >= 0xC2 && byte(0) < 0xE0 ? 2
                  : byte(0) >= 0xE0 && byte(0) < 0xF0 ? 3
                  : byte(0) >= 0xF0 && byte(0) < 0xF5 ? 4
                                                      : 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80)
      return 0;
  return length;
}

/// Names of tensors, keys and files come from outside: makes one line of them
/// that a terminal can show, and cuts its middle out if it is long.
std::string oneLine(absl::string_view text) {
  constexpr size_t kMostBytes = 2000;
  std::string line;
  for (size_t i = 0; i < text.size();) {
    size_t length = utf8Length(text.substr(i));
    bool isControl = length == 1 && (text[i] < ' ' || text[i] == 0x7F);
    if (length == 0 || isControl) {
      absl::StrAppendFormat(&line, "\\x%02x",
                            static_cast<unsigned char>(text[i]));
      ++i;
      continue;
    }
    absl::StrAppend(&line, text.substr(i, length));
    i += length;
  }
  if (line.size() <= kMostBytes)
    return line;
  // Not inside a character.
  size_t head = kMostBytes / 2, tail = line.size() - kMostBytes / 2;
  while ((line[head] & 0xC0) == 0x80)
    --head;
  while ((line[tail] & 0xC0) == 0x80)
    ++tail;
  return absl::StrCat(line.substr(0, head), " ... ", line.substr(tail));
}

} // namespace

std::string errorCodeName(ErrorCode code) {
  return absl::StrFormat("LLMC-E%04d", static_cast<int>(code));
}

absl::Status makeError(ErrorCode code, std::string_view what,
                       std::string_view advice) {
  std::string text = absl::StrCat(errorCodeName(code), ": ",
                                  oneLine({what.data(), what.size()}));
  if (!advice.empty())
    absl::StrAppend(&text, "; ", oneLine({advice.data(), advice.size()}));
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
