// SPDX-License-Identifier: Apache-2.0
// How the kernel-selecting passes build a plan.launch.
#pragma once

#include "dialects/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <utility>

namespace llmc {

/// What a launch binds, by the word names of Kernels.def.
struct LaunchSpec {
  llvm::StringRef kernel;
  llvm::SmallVector<std::pair<llvm::StringRef, mlir::Value>> inputs;
  llvm::SmallVector<std::pair<llvm::StringRef, mlir::Value>> inouts;
  llvm::SmallVector<std::pair<llvm::StringRef, mlir::Type>> results;
  llvm::SmallVector<std::pair<llvm::StringRef, mlir::Attribute>> scalars;
  plan::WordAttr rows;
  int64_t columns = 0;
};

/// Creates the launch, and the hand-tuned kernel's symbol if it is not there
/// yet.
plan::LaunchOp createLaunch(mlir::OpBuilder& builder, mlir::Location loc,
                            const LaunchSpec& spec);

/// Word 0 of a launch over `numRows` rows inside an entry function: all rows of
/// the entry, its sequences, or this rank's run of its rows.
plan::WordAttr rowsWord(mlir::func::FuncOp entry, int64_t numRows);

/// Adds the word that says that a product's factor was rounded before, if it
/// was.
void addFactorDtype(mlir::Value factor, LaunchSpec& spec);

/// An i64 scalar.
mlir::Attribute intScalar(mlir::MLIRContext* context, int64_t value);
/// An f64 scalar.
mlir::Attribute realScalar(mlir::MLIRContext* context, double value);
/// Value of llmrt::DType for an element type.
int64_t dtypeOf(mlir::Type elementType);
/// Outputs in a panel of this element type.
int64_t panelWidth(mlir::Type elementType);

/// Elements of one rank's ZeRO run of a matrix: whole panels of outputs, the
/// same for every rank.
int64_t zeroRunElements(mlir::RankedTensorType type, int64_t ranks);

/// The parameter that a value comes from, through gathers; null if none.
llm::GetParamOp paramOf(mlir::Value value);

/// On plan.launch: bytes of its one result where padding follows the elements.
inline constexpr llvm::StringLiteral kResultBytesAttr = "plan.result_bytes";

/// On a gather of a training step: the copy it makes stays until the backward
/// pass. On llm.get_param of a sharded parameter: reads that copy.
inline constexpr llvm::StringLiteral kKeptAttr = "dist.kept";

/// On dist.gather_in_place: runs beside what follows, to the end of the
/// segment.
inline constexpr llvm::StringLiteral kAsynchronousAttr = "dist.asynchronous";

/// Name of the discardable attribute of llm.param that holds its layout.
inline constexpr llvm::StringLiteral kLayoutAttr = "plan.layout";

} // namespace llmc
