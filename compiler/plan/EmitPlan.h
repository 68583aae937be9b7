// SPDX-License-Identifier: Apache-2.0
// From the `plan` phase to the bytes of a plan file.
#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <vector>

namespace llmc {

enum class PlanCode {
  Generate,
  Omit // for reading the tables only: such a plan cannot run
};

/// Generates code for the module's kernels and returns the payload of a plan
/// file (wrapPlan). The same module gives the same bytes. Errors are reported
/// on the module's ops.
mlir::FailureOr<std::vector<uint8_t>>
emitPlan(mlir::ModuleOp module, PlanCode code = PlanCode::Generate);

} // namespace llmc
