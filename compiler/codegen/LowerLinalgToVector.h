// SPDX-License-Identifier: Apache-2.0
// The CPU step of code generation: the linalg form of a kernel becomes one
// function of the kernel ABI (runtime/kernels/KernelAbi.h), as scf loops over
// vectors of 16 floats. The same code serves every CPU level: a level only
// decides how LLVM splits vectors.
#pragma once

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"

namespace llmc {

/// Lanes of every vector and partial sums of every reduction.
inline constexpr int64_t kLanes = 16;

/// Lowers a function made by lowerKernelToLinalg. A row (or head) of width C is
/// walked once for each level of sums that depend on one another, and once for
/// the results: every walk recomputes the elements it needs, and only the last
/// one stores, so that results may lie exactly on arguments and nothing needs
/// scratch.
///   Sums      lane i adds elements i, i + 16, ..; then lanes i and i + 8, i +
///   4, i + 2,
///             i + 1. They depend on the row and C alone.
///   Tile      isElementwise: rows x columns of the tile; else whole rows of
///   the tile.
/// Errors  norms of different widths in one kernel (a diagnostic).
mlir::FailureOr<mlir::LLVM::LLVMFuncOp>
lowerLinalgToVector(mlir::func::FuncOp form, bool isElementwise,
                    mlir::OpBuilder& builder);

} // namespace llmc
