// SPDX-License-Identifier: Apache-2.0
// What every step takes for granted of a model, and how its parameters take the
// compute dtype.
#pragma once

#include "compiler/passes/Options.h"
#include "dialects/llm/Llm.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace llmc {

/// Checks `@forward` and `llm.model`, which a module without one gets with the
/// vocab_size of the logits; an error is emitted at what is wrong. Adds
/// `digest` to `llm.model`, by which llmrt knows another model.
llvm::LogicalResult checkModel(mlir::func::FuncOp forward);

/// bf16 or f32, as the options say.
mlir::Type computeDtype(const Options& options, mlir::MLIRContext* context);

/// Matrices take the compute dtype; vectors (norms, biases) stay f32.
void convertParameters(mlir::ModuleOp module, mlir::Type dtype);

} // namespace llmc
