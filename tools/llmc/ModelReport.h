// SPDX-License-Identifier: Apache-2.0
// A model definition, or the dump of a phase, as `llmc inspect` shows it; and
// reading one with errors as people want them.
#pragma once

#include "absl/status/statusor.h"
#include "runtime/base/Error.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <string_view>

namespace llmc {

/// Turns diagnostics of a context into one status: the first error with its
/// notes.
class DiagnosticCollector {
public:
  explicit DiagnosticCollector(mlir::MLIRContext& context);

  /// A pass may have put a code of its own in its message; else it is `code`.
  absl::Status status(llmrt::ErrorCode code, std::string_view advice) const;

private:
  std::string text_;
  mlir::ScopedDiagnosticHandler handler_;
};

/// Errors  FileNotReadable; ModelInvalid with file, line and column.
absl::StatusOr<mlir::OwningOpRef<mlir::ModuleOp>>
readModule(mlir::MLIRContext& context, const std::string& path);

/// The text with locations, as it can be read again.
std::string printModule(mlir::ModuleOp module);

/// Model card, parameters by kind, functions with their ops and calls.
std::string summariseModel(mlir::ModuleOp module);

/// The same for programs; keys as docs/reference/llmc.md lists them.
std::string modelJson(mlir::ModuleOp module);

/// Ops of every function as a Graphviz graph, one cluster for each function.
/// Errors  Unsupported for a dump of the plan phase, which has no functions.
absl::StatusOr<std::string> callGraph(mlir::ModuleOp module);

} // namespace llmc
