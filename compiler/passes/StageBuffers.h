// SPDX-License-Identifier: Apache-2.0
// The buffers of one pipeline stage while it is lowered to a plan: which there
// are, what they are called, and which of them a tensor value lies in. Sizes
// are bytes, with the padding of layouts and slots. Offsets come later
// (AssignMemory).
#pragma once

#include "compiler/schedule/Schedule.h"
#include "dialects/plan/Plan.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"

#include <map>
#include <set>
#include <string>

namespace llmc {

/// Bytes of a tensor's elements, without padding.
int64_t bytesOf(mlir::ShapedType type);

class StageBuffers {
public:
  /// `slots`: how many values of each class are in flight on the stage; none in
  /// inference.
  StageBuffers(mlir::ModuleOp module, mlir::SymbolTable& symbols,
               const schedule::StageSlots& slots);

  /// Begins an entry of this name, a segment of `chunk` if it is one of a
  /// chunk: values of the one before are forgotten.
  void startEntry(mlir::StringRef entry, int64_t chunk);

  /// Buffer of an argument or result of the entry, called `name` in it. Values
  /// that go from one segment to another, and inputs of training, have one
  /// buffer in all entries.
  mlir::StringAttr argumentBuffer(mlir::StringRef name, mlir::ShapedType type);
  mlir::StringAttr outputBuffer(mlir::StringRef name, mlir::ShapedType type);

  /// True for what one segment of a training step writes and another reads.
  static bool isBetweenSegments(mlir::StringRef name);

  /// Notes where a value lies; false if that was decided before.
  bool assign(mlir::Value value, mlir::StringAttr buffer);

  bool isAssigned(mlir::Value value) const { return values_.count(value); }

  /// The buffer of a value; null if none.
  mlir::StringAttr lookup(mlir::Value value) const;

  /// Buffer that the op of `value` writes: the one decided, else a new one of
  /// this class.
  mlir::StringAttr resultBuffer(mlir::Value value, mlir::StringRef memoryClass);
  /// As resultBuffer for the gathered parameter of `shard`, of which `ranks`
  /// ranks hold a run of type `run` each: all of them are stored, padding
  /// included.
  mlir::StringAttr gatheredBuffer(mlir::Value value, llm::GetParamOp shard,
                                  mlir::ShapedType run, int64_t ranks);

  /// Assigns to a value the copy of the parameter of `get`, which is sharded,
  /// that stays from one segment to the next: one buffer of the stage.
  mlir::StringAttr assignKept(mlir::Value value, llm::GetParamOp get);

  /// Declare what an op reads, once for the stage, and assign its result.
  void declareParameter(llm::GetParamOp get);
  void declareCache(llm::GetCacheOp get);
  void declareState(llm::ReadStateOp read);
  void declareTable(plan::RopeTableOp op);

  /// The tables of the stage in the order of their declaration.
  mlir::ArrayRef<std::pair<plan::RopeTableOp, mlir::StringAttr>>
  tables() const {
    return tables_;
  }

  /// Bytes of a buffer with a padded layout; 0 for others.
  int64_t paddedBytes(mlir::StringAttr buffer) const {
    return paddedBytes_.lookup(buffer.getValue());
  }

  /// Moves all declarations to the end of `body`: parameters, caches and
  /// states, then buffers.
  void moveTo(mlir::Block& body);

private:
  mlir::StringAttr segmentBuffer(mlir::StringRef name, mlir::ShapedType type);
  mlir::StringAttr microBatchBuffer(mlir::StringRef name,
                                    mlir::ShapedType type);
  mlir::StringAttr newBuffer(std::string name, mlir::StringRef memoryClass,
                             mlir::ShapedType type, bool isPersistent,
                             int64_t padding = 0, int64_t bytes = -1);
  mlir::StringAttr newSlots(std::string name, mlir::StringRef memoryClass,
                            mlir::ShapedType type, mlir::StringRef kind,
                            int64_t slots);

  mlir::ModuleOp module_;
  mlir::SymbolTable& symbols_;
  mlir::OpBuilder builder_;
  schedule::StageSlots slots_;
  bool isTraining_;
  mlir::Block parameters_, buffers_; // declarations, until they are moved
  std::string entry_;
  int64_t chunk_ = 0;
  mlir::DenseMap<mlir::Value, mlir::StringAttr> values_;
  std::set<std::string> names_;
  std::map<std::string, mlir::StringAttr> params_, caches_, states_,
      tableBuffers_, inputs_, kept_;
  // By name and type: chunks share what they send and receive.
  std::map<std::pair<std::string, const void*>, mlir::StringAttr>
      segmentBuffers_;
  llvm::StringMap<int64_t> paddedBytes_;
  mlir::SmallVector<std::pair<plan::RopeTableOp, mlir::StringAttr>> tables_;
};

} // namespace llmc
