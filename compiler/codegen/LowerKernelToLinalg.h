// SPDX-License-Identifier: Apache-2.0
// The first step of code generation, the same for every target: the body of a
// generated kernel as linalg ops on tensors. It decides no order of additions
// and no loops: those belong to the targets (LowerLinalgToVector.h for the
// CPU).
#pragma once

#include "dialects/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"

namespace llmc {

/// Writes, at the builder's insertion point, a function with the kernel's name,
/// block arguments and yielded values, whose body is `linalg.generic` ops:
///   element ops    [parallel rows, parallel C]
///   sums of a row  [parallel rows, reduction C]
///   row scalars    [parallel rows], such as 1 / sqrt(mean + eps)
/// A norm of a width below the row's works on an expanded view [rows, heads,
/// width]. Bodies compute in f32; a bf16 result is rounded once, at the end of
/// its op. Errors  an op that is no row op, or a type that no row op has (a
/// diagnostic).
mlir::FailureOr<mlir::func::FuncOp>
lowerKernelToLinalg(plan::KernelOp kernel, mlir::OpBuilder& builder);

} // namespace llmc
