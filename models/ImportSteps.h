// SPDX-License-Identifier: Apache-2.0
// What the three ways into a model share: a config in Hugging Face's words
// becomes a module, and a module is compared with a checkpoint. Internal to
// models/.
#pragma once

#include "models/Family.h"

#include "runtime/io/WeightSource.h"

#include "absl/status/statusor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <functional>
#include <string>

namespace llmc {

/// A model before it is built: which family, its fields, where its tensors are.
struct ModelDescription {
  const Family* family = nullptr;
  ConfigReader reader{nlohmann::json::object(), ""};
  SourceNames sourceNames = nullptr;
  /// config.json of a model that has none: a new one, or one of a GGUF file.
  std::string config = {};
  /// Tensors of the checkpoint that no model uses.
  std::function<bool(const std::string& name, const ModelConfig& config)>
      isIgnored = nullptr;
  /// Fields that the family must have asked for, or the model is not what was
  /// meant.
  std::vector<std::string> givenFields = {};
  bool hasTokenizer = false;
};

/// Where a model's files lie, as llm.model shows it. Empty: no such file.
struct ModelFiles {
  std::string source;
  std::string tokenizer;
};

/// Reads the config as the family does, builds the module and verifies it. With
/// `weights`, compares every parameter with the tensor it comes from: presence,
/// shape, an element type that can be read. A tensor that nothing uses is an
/// error, since the config would not describe the checkpoint.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
buildModel(mlir::MLIRContext& context, ModelDescription& description,
           const ModelFiles& files, const llmrt::WeightSource* weights);

/// Describes a Hugging Face folder. Errors  those of ConfigReader;
/// FamilyUnknown.
absl::StatusOr<ModelDescription>
describeHuggingFace(const std::string& folder,
                    const llmrt::WeightSource& weights);

/// Describes a GGUF file, in Hugging Face's words.
/// Errors  FamilyUnknown, ConfigUnsupported, GgufKeyMissing, GgufKeyWrongType.
absl::StatusOr<ModelDescription>
describeGguf(const llmrt::WeightSource& weights);

} // namespace llmc
