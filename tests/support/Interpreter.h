// SPDX-License-Identifier: Apache-2.0
// A plain interpreter of `llm` and `dist` on virtual ranks, in double
// precision: the oracle that passes are compared with. It runs the phases
// model, step and sharded, and whatever of later phases still consists of these
// dialects. It is slow, rounds nothing and knows nothing about kernels or
// plans.
#pragma once

#include "tests/support/InterpreterValues.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <functional>
#include <map>
#include <optional>

namespace llmc {

using NamedTensors = std::map<std::string, Tensor>;

/// Returns the elements of a whole, logical parameter.
using ParameterSource = std::function<std::vector<double>(llm::ParamOp)>;

class Interpreter {
public:
  /// Keeps a reference to the module. One rank for each of its mesh; one
  /// without a mesh.
  Interpreter(mlir::ModuleOp module, ParameterSource parameters);
  ~Interpreter();

  int64_t numRanks() const { return states_.size(); }

  const RankState& state(int64_t rank) const { return states_[rank]; }

  /// What a rank keeps from call to call under a symbol: the part of a
  /// parameter that it holds, a state (zeros at first; a master starts as its
  /// parameter), or a cache (NaN at first). `symbol` must be one of these.
  Tensor& memory(int64_t rank, llvm::StringRef symbol);

  /// Runs entry `name` once on every rank, in lock step; `inputs` has an
  /// element for each rank. Arguments are found by their `llm.name`, else by
  /// the name of their location. Returns what each rank returns, by `llm.name`
  /// (`result` without one). Memory keeps its values from call to call.
  /// Errors  ranks that wait for each other for ever, that disagree about a
  ///         collective, an op or index outside what the dialects allow: a
  ///         diagnostic.
  mlir::FailureOr<std::vector<NamedTensors>>
  run(llvm::StringRef name, llvm::ArrayRef<NamedTensors> inputs);

  /// A function that a rank runs: an entry, or the entry of one chunk of its
  /// pipeline stage (chunk -1: of all).
  struct Segment {
    llvm::StringRef entry;
    int64_t chunk = -1;
  };

  /// As run(), of the ranks to which `segmentOf` gives a segment; the others
  /// wait and return nothing.
  mlir::FailureOr<std::vector<NamedTensors>> runSegments(
      llvm::function_ref<std::optional<Segment>(const RankState&)> segmentOf,
      llvm::ArrayRef<NamedTensors> inputs);

  /// Number of collectives and messages that ranks took part in so far, by
  /// mnemonic.
  const std::map<std::string, int64_t>& communications() const;

private:
  class Fabric;
  struct Thread;

  mlir::func::FuncOp findEntry(Segment segment, const RankState& state);
  mlir::LogicalResult start(Thread& thread, const NamedTensors& inputs);
  mlir::FailureOr<bool> runUntilBlocked(Thread& thread);
  mlir::FailureOr<bool> step(Thread& thread, mlir::Operation* op);
  void enter(Thread& thread, mlir::func::CallOp call);
  void leave(Thread& thread, mlir::func::ReturnOp ret);
  Tensor localParameter(llm::ParamOp param, const RankState& state);
  Tensor newMemory(llvm::StringRef symbol, const RankState& state);

  mlir::ModuleOp module_;
  mlir::SymbolTable symbols_;
  ParameterSource parameters_;
  std::map<std::string, std::vector<double>> logical_; // read parameters
  std::vector<RankState> states_;
  std::vector<std::map<std::string, Tensor>> memories_; // of each rank
  std::unique_ptr<Fabric> fabric_;
};

} // namespace llmc
