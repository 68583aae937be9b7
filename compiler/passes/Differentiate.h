// SPDX-License-Identifier: Apache-2.0
// Reverse-mode differentiation of functions made of differentiable ops and
// calls.
#pragma once

#include "dialects/llm/Llm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLFunctionalExtras.h"

#include <map>

namespace llmc {

/// A block function split in two. `forward` returns the block's results, then
/// the saved values. `backward` takes gradients of the results, the block's
/// arguments and the saved values, and returns the gradients of the arguments
/// in `gradientOf`.
struct DifferentiatedBlock {
  mlir::func::FuncOp forward;
  mlir::func::FuncOp backward;
  unsigned numResults = 0;
  llvm::SmallVector<unsigned> gradientOf;
};

/// On `backward` of a block: the name of its forward half, and how many of its
/// last arguments are what that saved. RecomputeActivations reads them.
inline constexpr llvm::StringLiteral kBackwardOfAttr = "llm.backward_of";
inline constexpr llvm::StringLiteral kNumSavedAttr = "llm.num_saved";

/// Differentiates block functions, each once, and the body of an entry.
class Differentiation {
public:
  explicit Differentiation(mlir::ModuleOp module) : symbols_(module) {}

  /// Splits block function `block`, which becomes the forward half. Its f32
  /// arguments that `isWanted` names get gradients. Fails with an error at an
  /// op without a gradient.
  llvm::FailureOr<DifferentiatedBlock*>
  splitBlock(mlir::func::FuncOp block,
             llvm::function_ref<bool(unsigned)> isWanted);

  /// Appends at `builder` the gradient ops of everything in `forward` that the
  /// values of `seeds` (value, gradient) depend on. Operands are values of
  /// `forward`; saveValues makes them legal. `onParameter` gets each gradient
  /// of a get_param.
  llvm::LogicalResult differentiate(
      mlir::Block& forward, mlir::OpBuilder& builder,
      llvm::DenseMap<mlir::Value, mlir::Value> seeds,
      llvm::function_ref<bool(mlir::Value)> isWanted,
      llvm::function_ref<void(llm::GetParamOp, mlir::Value)> onParameter,
      llvm::DenseMap<mlir::Value, mlir::Value>& gradients);

  /// Replaces values of `forward` used in `backward`: arguments by `mapping`,
  /// reads of parameters and states by copies, results of other ops by new
  /// arguments of `backward`, which are returned in the order of those.
  llvm::SmallVector<mlir::Value> saveValues(mlir::Block& forward,
                                            mlir::Block& backward,
                                            mlir::IRMapping& mapping);

  DifferentiatedBlock* find(llvm::StringRef forwardName) {
    auto found = blocks_.find(forwardName.str());
    return found == blocks_.end() ? nullptr : &found->second;
  }

private:
  llvm::LogicalResult
  visitCall(mlir::func::CallOp call, mlir::OpBuilder& builder,
            llvm::function_ref<mlir::Value(mlir::Value)> gradientOf,
            llvm::function_ref<void(mlir::Value, mlir::Value)> add);

  mlir::SymbolTable symbols_;
  std::map<std::string, DifferentiatedBlock> blocks_;
};

} // namespace llmc
