// SPDX-License-Identifier: Apache-2.0
// `--memory-limit`: refuses a plan that does not fit, before anything runs.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>

namespace llmc {

/// Reads "8G", "512M", "1.5g" or a number of bytes (powers of 1024).
/// Errors  BadOptionValue.
absl::StatusOr<int64_t> parseBytes(const std::string& text);

/// Compares the arena of every stage of a module in the `plan` phase with the limit.
/// Errors  MemoryLimit, naming the largest buffers and what would make it fit.
absl::Status checkMemoryLimit(mlir::ModuleOp module, int64_t limitBytes);

} // namespace llmc
