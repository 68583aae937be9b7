// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the ops of TrainingOps.td in double precision, written from
// the text of the op and of docs/design/training.md and from nothing else.
#pragma once

#include "tests/support/InterpreterValues.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace llmc {

/// Computes an op that stands in a backward pass and needs no memory: the
/// gradient ops, and attention on whole rows with its gradient. Returns false
/// if it is none of these.
bool interpretGradientOp(mlir::Operation* op, RankState& state);

/// What a rank keeps under the symbol of a parameter or state.
using Memory = llvm::function_ref<Tensor&(llvm::StringRef)>;

/// Computes an op of the loss, of states or of the optimizer. Returns false if
/// it is none of these.
bool interpretTrainingOp(mlir::Operation* op, RankState& state, Memory memory);

} // namespace llmc
