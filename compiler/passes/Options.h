// SPDX-License-Identifier: Apache-2.0
// The compile options as the module carries them (`llm.options`), typed.
#pragma once

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>

namespace llmc {

/// See docs/reference/llmc.md for each option.
struct Options {
  std::string mode = "infer";
  std::string target = "cpu";
  std::string dtype = "f32";
  std::string weightsFormat = "dense"; // of matrices: or q8_0, q4_0
  int64_t batch = 1;
  int64_t seq =
      0; // cache tokens of one sequence; 0: the model's context length
  int64_t chunk = 128; // rows of a prefill chunk
  int64_t zero = 0;
  int64_t zeroLiveBytes =
      0; // of gathered parameters kept from forward to backward
  int64_t zeroBucketBytes = 0; // of the runs that one collective moves together
  bool sequenceParallel = true;
  // Training.
  std::string objective = "pretrain";
  std::string schedule = "1f1b";
  std::string recompute = "none";
  std::string preferenceLoss = "sigmoid"; // objective dpo: or hinge, ipo
  std::string reference = "plan";         // dpo: or precompute
  int64_t referenceZero = 0;              // dpo: 0 or 3
  std::string freeze;        // pattern of parameter names; empty: none
  int64_t microbatches = 1;  // of one step on each data rank
  int64_t virtualStages = 1; // model chunks of a rank, for schedule interleaved

  /// Reads the options of a module; absent ones keep their defaults.
  static Options read(mlir::ModuleOp module);

  /// True for a target of the CUDA kind: see compiler/target/Target.h.
  bool isCuda() const { return target != "cpu"; }

  /// Writes all options to the module.
  void write(mlir::ModuleOp module) const;
};

/// Size of a mesh axis of the module's `dist.mesh`; 1 without one.
int64_t meshAxisSize(mlir::ModuleOp module, llvm::StringRef axis);

/// Name of an op for provenance: the names of its location, outermost first,
/// joined by
/// "/"; or the op's own name.
std::string locationName(mlir::Location loc);

} // namespace llmc
