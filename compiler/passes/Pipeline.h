// SPDX-License-Identifier: Apache-2.0
// The order of passes, cut into phases.
#pragma once

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace mlir {
class Pass;
class PassManager;
} // namespace mlir

namespace llmc {

/// One pass in the order it runs.
struct PipelineStep {
  llvm::StringRef phase;  // that it leads to: step, sharded, kernels, plan
  llvm::StringRef name;   // without the prefix llmc-
  llvm::StringRef reason; // why it stands here
  bool isOptional;        // may be switched off: results do not change
  std::unique_ptr<mlir::Pass> (*create)();
  llvm::StringRef mode = "";   // that it runs in; empty: every mode
  llvm::StringRef target = ""; // cpu or cuda that it is for; empty: both
};

/// All steps, in order.
llvm::ArrayRef<PipelineStep> pipelineSteps();

/// The phases, in order: model, step, sharded, kernels, plan.
llvm::ArrayRef<llvm::StringRef> pipelinePhases();

struct PipelineRequest {
  std::string from = "model";
  std::string to = "plan";
  std::vector<std::string> disabled; // names of optional steps
  std::string dumpFolder;            // empty: no dumps
  // Called on the pass manager before it runs, for MLIR's own flags.
  std::function<void(mlir::PassManager&)> configure;
};

/// Runs the steps between two phases; verifies and, on request, dumps each
/// phase as NN-phase.mlir with locations, so that parsing a dump keeps them.
mlir::LogicalResult runPipeline(mlir::ModuleOp module,
                                const PipelineRequest& request);

} // namespace llmc
