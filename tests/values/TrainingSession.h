// SPDX-License-Identifier: Apache-2.0
// Trains with the interpreter: gives the segments of a training step their
// inputs as the runtime does, and reads losses, gradients and parameters out of
// the memory of the ranks. docs/design/training.md says what the segments are.
#pragma once

#include "tests/support/Interpreter.h"
#include "tests/support/TrainingFixture.h"

namespace llmc {

/// A mesh and the options that matter for values.
struct TrainingSetup {
  int64_t dp = 1, pp = 1, tp = 1, virtualStages = 1;
  int64_t zero = 0, microbatches = 1;
  bool sequenceParallel = true;
  int64_t batch = 12, seq = 29;
  std::string recompute = "none", dtype = "f32", freeze;
};

/// Writes the setup to a model and compiles it to a phase.
mlir::LogicalResult compileTrainingTo(mlir::ModuleOp model,
                                      const TrainingSetup& setup,
                                      llvm::StringRef phase);

class TrainingSession {
public:
  /// Keeps references to the module and the setup.
  TrainingSession(mlir::ModuleOp step, const TrainingSetup& setup,
                  ParameterSource parameters);

  /// What one step gives: the loss before its update and the gradient norm
  /// before clipping.
  struct Report {
    double loss = 0, norm = 0;
  };

  /// Prologue, then forward and backward of every micro-batch: gradients are
  /// in memory. Errors  a diagnostic.
  mlir::LogicalResult accumulate(const llmrt::testing::TrainingBatch& batch);
  /// The optimizer, as update number `numUpdates` (from 1). Errors  a
  /// diagnostic.
  mlir::FailureOr<Report>
  update(const llmrt::testing::TrainingOptimizer& optimizer,
         int64_t numUpdates);
  /// Both. Errors  a diagnostic.
  mlir::FailureOr<Report>
  step(const llmrt::testing::TrainingBatch& batch,
       const llmrt::testing::TrainingOptimizer& optimizer, int64_t numUpdates);

  /// A whole, logical parameter, or with a suffix (".gradient") its state, put
  /// together from all ranks. Gradients are as `accumulate` leaves them: what
  /// data ranks hold whole is added. Not a number where ranks disagree about an
  /// element that they all hold, everywhere if padding is not zero.
  std::vector<double> logical(llm::ParamOp param, llvm::StringRef suffix = "");

  Interpreter& interpreter() { return interpreter_; }

private:
  using PerRank = std::vector<NamedTensors>;

  /// Runs an entry on each of some global stages (chunk * pp + stage, no two on
  /// one stage) at once. Inputs and results are in `held`, [chunk][rank].
  mlir::LogicalResult runOn(const std::map<int64_t, llvm::StringRef>& segments,
                            std::vector<PerRank>& held);
  bool isOnStage(llm::ParamOp param, int64_t stage);
  std::vector<double> localOf(llm::ParamOp param, llvm::StringRef suffix,
                              int64_t tensorRank);
  std::vector<double> localOn(int64_t stage, llm::ParamOp param,
                              llvm::StringRef suffix, int64_t tensorRank);
  PerRank inputsOf(const llmrt::testing::TrainingBatch& batch,
                   int64_t microbatch);

  mlir::ModuleOp module_;
  const TrainingSetup& setup_;
  Interpreter interpreter_;
};

} // namespace llmc
