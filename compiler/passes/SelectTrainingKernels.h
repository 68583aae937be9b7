// SPDX-License-Identifier: Apache-2.0
// The part of kernel selection that only training needs.
#pragma once

#include "dialects/plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace llmc {

/// Notes on each op that makes a gradient whose it is, from the state that it
/// is added to: the layout of the gradient depends on it. Before
/// selectTrainingKernel. Fails with an error at a sum of two gradients of a
/// matrix.
llvm::LogicalResult markGradients(mlir::func::FuncOp entry);

/// Replaces `op`, an op of TrainingOps.td, by a launch. Does nothing for other
/// ops. Fails with an error at an op that has no kernel in its form.
llvm::LogicalResult selectTrainingKernel(mlir::Operation* op,
                                         mlir::OpBuilder& builder);

/// The parameter whose gradient `value` is; null if none.
llm::ParamOp gradientParameter(mlir::Value value);

/// On llm.adamw and llm.square_sum: the rank works on its ZeRO run; and, where
/// the memory (the parameter, the gradient) is whole, the bytes at which the
/// run begins
/// (`#dist.by_coordinate`).
inline constexpr llvm::StringLiteral kIsRunAttr = "llm.is_run";
inline constexpr llvm::StringLiteral kRunOffsetsAttr = "llm.run_offsets";

/// On dist.recv: the gradient state that what it receives is added to.
inline constexpr llvm::StringLiteral kStateAttr = "llm.state";

/// On llm.param: elements of a ZeRO run of its f32 states; memory that is
/// exchanged over the data axis holds a whole number of runs.
inline constexpr llvm::StringLiteral kRunElementsAttr = "llm.run_elements";

/// Bytes of a state on one rank, with the padding of its layout.
int64_t stateBytes(llm::StateOp state);

} // namespace llmc
