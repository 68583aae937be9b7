// SPDX-License-Identifier: Apache-2.0
// From the `plan` phase to the bytes of a plan file.
#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <vector>

namespace llmc {

/// Generates code for the module's kernels and writes the plan. The same module gives
/// the same bytes. Errors are reported on the module's ops.
mlir::FailureOr<std::vector<uint8_t>> emitPlan(mlir::ModuleOp module);

} // namespace llmc
