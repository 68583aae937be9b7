// SPDX-License-Identifier: Apache-2.0
// What the fusion passes share: which ops are row ops, and how one becomes a
// region.
#pragma once

#include "dialects/plan/Plan.h"

namespace llmc {

/// Returns true for an op that code generation handles: elementwise ops and
/// norms on [rows, C] activations.
bool isRowOp(mlir::Operation* op);

/// Returns true if every op of the body is elementwise, so that columns are
/// independent.
bool isElementwiseBody(mlir::Block& body);

/// Moves `ops` (in order) into one plan.fused before the last of them. Operands
/// from outside become inputs, results used outside become results. Ops that
/// nobody reads are erased: null.
plan::FusedOp fuseOps(llvm::ArrayRef<mlir::Operation*> ops);

} // namespace llmc
