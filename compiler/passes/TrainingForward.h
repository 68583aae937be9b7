// SPDX-License-Identifier: Apache-2.0
// The forward pass of a training step: `@forward` on the static rows of a
// micro-batch, once for the model that is trained and, for preference
// optimisation, once more for the frozen reference beside it.
#pragma once

#include "compiler/passes/Differentiate.h"

#include "llvm/ADT/DenseMap.h"

namespace llmc {

/// Static shape of one micro-batch on one data rank.
struct MicroBatch {
  int64_t sequences = 0;
  int64_t rowsPerSequence = 0;

  int64_t rows() const { return sequences * rowsPerSequence; }
};

/// Symbol of the reference model's copy of a parameter.
inline constexpr llvm::StringLiteral kReferencePrefix = "reference.";
/// Weight set that the reference model is loaded from.
inline constexpr llvm::StringLiteral kReferenceSet = "reference";
/// Marks calls of layers of the reference model: `backward` has none for them.
inline constexpr llvm::StringLiteral kReferenceAttr = "llm.reference";

class TrainingForward {
public:
  /// `forward` is the model's; block functions are made beside it. `isTrained`:
  /// whether gradients of a parameter are wanted, by name. All outlive the
  /// object.
  TrainingForward(mlir::func::FuncOp forward, mlir::SymbolTable& symbols,
                  Differentiation& differentiation, MicroBatch shape,
                  mlir::Type dtype,
                  llvm::function_ref<bool(llvm::StringRef)> isTrained)
      : forward_(forward), symbols_(symbols), differentiation_(differentiation),
        shape_(shape), dtype_(dtype), isTrained_(isTrained) {}

  struct Logits {
    mlir::Value model;     // [S * R, V]
    mlir::Value reference; // null without one
  };

  /// Writes the forward pass for inputs i32[S, R]. Layers of the reference
  /// stand beside those of the model, so that one cut into pipeline stages cuts
  /// both. Errors  a diagnostic.
  mlir::FailureOr<Logits> write(mlir::OpBuilder& builder, mlir::Value ids,
                                mlir::Value positions, mlir::Value starts,
                                bool hasReference);

private:
  /// A copy of the model while it is written.
  struct Copy {
    bool isReference = false;
    mlir::IRMapping mapping;
    mlir::SmallVector<mlir::Value> results;
  };

  mlir::Type staticType(mlir::Type type) const;
  mlir::LogicalResult cloneBody(mlir::func::FuncOp func,
                                mlir::MutableArrayRef<Copy> copies,
                                mlir::Value starts);
  mlir::LogicalResult cloneOp(mlir::Operation& op, Copy& copy,
                              mlir::Value starts);
  void cloneAttention(llm::AttentionOp op, mlir::IRMapping& mapping,
                      mlir::Value starts);
  void cloneParameter(llm::GetParamOp op, Copy& copy);
  mlir::LogicalResult cloneCall(mlir::func::CallOp call, Copy& copy,
                                mlir::Value starts);
  mlir::FailureOr<mlir::func::FuncOp> specialise(mlir::func::FuncOp callee,
                                                 mlir::ValueRange operands,
                                                 llvm::StringRef suffix);
  std::vector<bool> wantedArguments(mlir::func::FuncOp callee);

  mlir::func::FuncOp forward_;
  mlir::SymbolTable& symbols_;
  Differentiation& differentiation_;
  MicroBatch shape_;
  mlir::Type dtype_;
  llvm::function_ref<bool(llvm::StringRef)> isTrained_;
  mlir::OpBuilder* builder_ = nullptr;
  llvm::DenseMap<mlir::func::FuncOp, DifferentiatedBlock*> blocks_;
  llvm::DenseMap<mlir::func::FuncOp, mlir::func::FuncOp> referenceBlocks_;
};

} // namespace llmc
