// SPDX-License-Identifier: Apache-2.0
// Errors that a user can cause. Each has a stable code (LLMC-E0301), says what
// was wrong, where, and what to do. Programmer errors are asserts and not here.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace llmrt {

enum class ErrorCode : uint16_t {
#define LLMC_ERROR(number, name, status) name = 1##number - 10000,
#include "runtime/base/Errors.def"
#undef LLMC_ERROR
};

/// Makes the status of a user-visible error: "LLMC-E0301: what; advice".
/// `what` says what was wrong and where, data last; `advice` what to do about
/// it. Both lower case, no full stop.
absl::Status makeError(ErrorCode code, std::string_view what,
                       std::string_view advice);

/// Returns "LLMC-E0301".
std::string errorCodeName(ErrorCode code);

/// Returns the error of a failed system call on `path`: DiskFull for ENOSPC and
/// EDQUOT, else `code` with the system's own words.
absl::Status makeSystemError(ErrorCode code, int errnum, std::string_view doing,
                             std::string_view path);

} // namespace llmrt

/// Returns from the enclosing function if `expr` is not ok.
#define LLMRT_RETURN_IF_ERROR(expr)                                            \
  do {                                                                         \
    if (absl::Status llmrtStatus = (expr); !llmrtStatus.ok())                  \
      return llmrtStatus;                                                      \
  } while (false)

#define LLMRT_CONCAT_INNER(a, b) a##b
#define LLMRT_CONCAT(a, b) LLMRT_CONCAT_INNER(a, b)

/// Declares `decl` from a StatusOr, or returns its error.
#define LLMRT_ASSIGN_OR_RETURN(decl, expr)                                     \
  LLMRT_ASSIGN_OR_RETURN_IMPL(LLMRT_CONCAT(llmrtOr, __LINE__), decl, expr)
#define LLMRT_ASSIGN_OR_RETURN_IMPL(tmp, decl, expr)                           \
  auto tmp = (expr);                                                           \
  if (!tmp.ok())                                                               \
    return std::move(tmp).status();                                            \
  decl = std::move(*tmp)
