// SPDX-License-Identifier: Apache-2.0
// The arithmetic of each `llm` op in double precision, written from the text of
// the op and from nothing else.
#pragma once

#include "tests/support/InterpreterValues.h"

namespace llmc {

/// Computes one `llm` op that needs no other rank and writes its result, or
/// cache. Errors  an op it does not know, or an index outside its tensor: a
/// diagnostic.
mlir::LogicalResult interpretOp(mlir::Operation* op, RankState& state);

/// Returns the activation function of x.
double activate(llm::ActivationKind kind, double x);

} // namespace llmc
