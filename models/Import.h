// SPDX-License-Identifier: Apache-2.0
// From a checkpoint, or a few numbers, to the `model` phase. Weights stay in
// their files: only names and shapes are read (and GGUF's few rotary factors).
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>

namespace llmc {

/// Imports a Hugging Face folder (config.json with safetensors) or a GGUF file.
/// The module's `source` and `tokenizer` are relative to `outputDir`, where
/// model.mlir or the plan is going to lie; as given if it is empty. Errors
/// FamilyUnknown, Config..., Checkpoint..., TensorNotFound,
///         TensorTypeUnsupported, and those of WeightSource::open().
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
importCheckpoint(mlir::MLIRContext& context, const std::string& checkpointPath,
                 const std::string& outputDir);

/// Makes a model without a checkpoint from "FAMILY,layers=2,hidden=64,...":
/// what is not given is as in the family's published model (see
/// newModelKeys()), except that kv_heads follows heads. Weights come from the
/// initialisers. Errors  FamilyUnknown, NewModelOption, Config...
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
newModel(mlir::MLIRContext& context, absl::string_view spec);

/// Returns "layers, hidden, ...": what newModel() understands.
std::string newModelKeys();

} // namespace llmc
