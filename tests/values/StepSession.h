// SPDX-License-Identifier: Apache-2.0
// Serves token sequences with the interpreter: fills the inputs of prefill,
// decode and score as the runtime does and collects logits. Each data replica
// has its own sequences.
#pragma once

#include "compiler/passes/Options.h"
#include "tests/support/Interpreter.h"

#include "mlir/IR/OwningOpRef.h"

namespace llmc {

/// A mesh and the options that matter for values.
struct StepSetup {
  int64_t dp = 1, pp = 1, tp = 1;
  int64_t zero = 0, batch = 1, chunk = 16, seq = 130;
  bool sequenceParallel = true;
};

/// Writes the setup to a model and compiles it to a phase, or up to the pass
/// `last`.
mlir::LogicalResult compileTo(mlir::ModuleOp model, const StepSetup& setup,
                              llvm::StringRef phase, llvm::StringRef last = "");

/// Seeded values, about N(0, 1/inputs) for matrices; around 1 for vectors.
ParameterSource randomParameters(uint64_t seed);

/// Ids below `vocab`.
std::vector<int64_t> randomTokens(int64_t count, int64_t vocab, uint64_t seed);

/// Rows of logits.
using Rows = std::vector<std::vector<double>>;

class StepSession {
public:
  StepSession(mlir::ModuleOp step, const StepSetup& setup,
              ParameterSource parameters);

  /// Tokens of one sequence for each data replica.
  using PerReplica = std::vector<std::vector<int64_t>>;

  /// Feeds tokens from position 0 in chunks and returns logits [replica]: of
  /// every row
  /// (`score`) or of the last (`prefill`). Errors  a diagnostic.
  mlir::FailureOr<std::vector<Rows>> feed(llvm::StringRef entry, int64_t slot,
                                          const PerReplica& tokens);
  /// Decodes one token for each (replica, slot); -1 leaves a slot idle. Returns
  /// logits [replica][slot].
  mlir::FailureOr<std::vector<Rows>>
  decode(const std::vector<std::vector<int64_t>>& tokens,
         const std::vector<std::vector<int64_t>>& positions);

  Interpreter& interpreter() { return interpreter_; }

  /// What the last call sampled, [replica][slot].
  const std::vector<std::vector<int64_t>>& sampled() const { return sampled_; }

private:
  NamedTensors emptyInputs(int64_t sequences, int64_t rows, int64_t firstSlot);
  mlir::FailureOr<std::vector<Rows>>
  call(llvm::StringRef entry, const std::vector<NamedTensors>& perReplica);

  StepSetup setup_;
  int64_t pages_;
  Interpreter interpreter_;
  std::vector<std::vector<int64_t>> sampled_;
};

/// Largest difference over the largest reference magnitude; infinite for other
/// shapes and for values that are not finite.
double relativeDifference(const Rows& a, const Rows& reference);

} // namespace llmc
