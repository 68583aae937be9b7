// SPDX-License-Identifier: Apache-2.0
// Splits a collective into start and wait, for the passes that decide where
// each of them stands.
#pragma once

#include "dialects/dist/Dist.h"

#include "mlir/IR/Builders.h"

namespace llmc {

/// Returns the call site of an op that was inlined, its own location at top
/// level: ops of one layer have the same.
mlir::Location callSite(mlir::Operation* op);

/// Creates the start of `op`, an all_gather, reduce_scatter or all_reduce.
dist::StartOp createStart(mlir::OpBuilder& builder, mlir::Operation* op);

/// Creates the wait for a start of `op`. It takes over the readers of `op`,
/// which is erased.
dist::WaitOp createWait(mlir::OpBuilder& builder, dist::StartOp start,
                        mlir::Operation* op);

} // namespace llmc
