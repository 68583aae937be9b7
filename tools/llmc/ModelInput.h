// SPDX-License-Identifier: Apache-2.0
// What `llmc import` and `llmc compile` start from: a checkpoint or a model.
#pragma once

#include "absl/status/statusor.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace llmc {

/// Imports a Hugging Face folder or a GGUF file; the model names it relative to
/// the folder of `output`.
/// Errors  CheckpointNotRecognised for another file, and those of
///         importCheckpoint.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importModel(mlir::MLIRContext& context, const std::string& path,
            const std::string& output);

/// Reads a .mlir file, or imports a checkpoint.
/// Errors  ModelInvalid for a file that holds no model, and those of readModule
///         and importModel.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
readModel(mlir::MLIRContext& context, const std::string& path,
          const std::string& output);

} // namespace llmc
