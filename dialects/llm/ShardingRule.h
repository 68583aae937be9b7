// SPDX-License-Identifier: Apache-2.0
// How the dimensions of an op's results follow those of its operands: the
// language of ShardingRuleInterface. Source: the factor notation of Shardy and
// of einsum.
#pragma once

#include "mlir/IR/Operation.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>

namespace llmc::llm {

enum class FactorKind {
  Parallel,  // each index computes alone: a split passes through
  Reduction, // summed over: a split makes the result a partial sum
  Full,      // must be whole on every rank
};

/// Factor numbers of every dimension. Two dimensions with one factor are cut
/// together. A dimension with factor -1 has no rule: it must be whole.
struct ShardingRule {
  llvm::SmallVector<FactorKind> factors;
  llvm::SmallVector<llvm::SmallVector<int>> operands;
  llvm::SmallVector<llvm::SmallVector<int>> results;
  /// For each factor, the run of elements of a tensor dimension that must stay
  /// on one rank (a head); 1 where empty.
  llvm::SmallVector<int64_t> granularity = {};
  /// For each result, the operand whose cut it copies; the first cut one where
  /// empty.
  llvm::SmallVector<int> follows = {};
};

/// Sum of the bytes of all tensor operands and results with static shapes.
int64_t operandAndResultBytes(mlir::Operation* op);

} // namespace llmc::llm
