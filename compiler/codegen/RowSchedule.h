// SPDX-License-Identifier: Apache-2.0
// What every back-end does with the linalg form of a kernel: which walks over a
// row it needs, and what an element is. How a walk is cut into vectors, threads
// and blocks is a back-end's own (LowerLinalgToVector, LowerLinalgToGpu).
#pragma once

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/ADT/DenseMap.h"

namespace llmc {

/// What a generic of the form computes for a row.
enum class RowKind { Elements, Sum, Scalar };

/// The generics of a form, with the walk after which each is known.
struct RowSchedule {
  mlir::SmallVector<mlir::linalg::GenericOp> generics;
  llvm::DenseMap<mlir::Operation*, RowKind> kinds;
  llvm::DenseMap<mlir::Operation*, int> walks; // that end before it is known
  int numWalks = 0;      // walks for sums; the results' comes after
  int64_t width = 0;     // of a row
  int64_t unitWidth = 0; // of what is summed: the row, or one head of it

  /// True for a sum or a scalar of the row: not one value for each element.
  bool isScalar(mlir::Value tensor) const;
  /// The sums that need `walk` earlier walks: one walk makes them all.
  mlir::SmallVector<mlir::linalg::GenericOp> sumsOfWalk(int walk) const;
  /// The scalars that are known once those sums are.
  mlir::SmallVector<mlir::linalg::GenericOp> scalarsAfterWalk(int walk) const;
};

/// Schedules a function made by lowerKernelToLinalg.
/// Errors  norms of different widths in one kernel; a norm in an elementwise
/// one (diagnostics).
mlir::FailureOr<RowSchedule> makeRowSchedule(mlir::func::FuncOp form,
                                             bool isElementwise);

/// Looks through views: heads do not matter to an element.
mlir::Value sourceOf(mlir::Value tensor);

/// Extent of the last dimension.
int64_t lastDim(mlir::Value tensor);

/// Emits a generic's scalar body on scalars or vectors, one input for each
/// block argument; those that the body does not read may be null. A bf16 value
/// is held as the f32 value that it is.
mlir::Value evaluateBody(mlir::ImplicitLocOpBuilder& b,
                         mlir::linalg::GenericOp op,
                         mlir::ArrayRef<mlir::Value> inputs);

/// Adds the lanes of a vector, a power of two of them: halves, until one is
/// left.
mlir::Value addLanes(mlir::ImplicitLocOpBuilder& b, mlir::Value lanes);

} // namespace llmc
