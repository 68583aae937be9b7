// SPDX-License-Identifier: Apache-2.0
// What DifferentiableOpInterface is asked and what it answers.
#pragma once

#include "mlir/IR/Builders.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/SmallVector.h"

namespace llmc::llm {

struct GradientRequest {
  mlir::OpBuilder& builder;
  /// One for each result; null where no gradient reaches it.
  llvm::SmallVector<mlir::Value> resultGradients;
  /// For each operand, whether its gradient is wanted.
  llvm::SmallVector<bool> isNeeded;
  /// Filled by the op: one for each operand, null where not needed.
  llvm::SmallVector<mlir::Value> operandGradients;
};

} // namespace llmc::llm
