// SPDX-License-Identifier: Apache-2.0
// Turns the collectives and copies of the `dist` dialect into commands of a
// plan.
#pragma once

#include "compiler/passes/StageBuffers.h"
#include "dialects/dist/Dist.h"

namespace llmc {

/// Lowers the collectives of the entries of one stage, one entry after another.
class CollectiveCommands {
public:
  CollectiveCommands(mlir::ModuleOp module, StageBuffers& buffers,
                     mlir::OpBuilder& builder)
      : module_(module), buffers_(buffers), builder_(builder) {}

  /// Begins an entry: its events are counted from 0. What it sends and receives
  /// moves on `transferStream`: 0 compute, 1 communication.
  void startEntry(int64_t transferStream);

  /// Ends an entry: the compute stream waits for what still runs.
  void finishEntry(mlir::Location loc);

  /// Creates the commands of `op`, an op of the `dist` dialect, at the
  /// builder's place. Fails with an error at an op that an earlier pass should
  /// have lowered.
  mlir::LogicalResult lower(mlir::Operation* op);

private:
  mlir::LogicalResult lowerCollective(mlir::Operation* op);
  void lowerTransfer(mlir::Operation* op, bool isSend);
  void lowerSlice(dist::SliceRowsOp op);
  void lowerGatherInPlace(dist::GatherInPlaceOp op);
  void beginAsynchronous(mlir::Location loc);
  int64_t endAsynchronous(mlir::Location loc);
  void waitForGathers(mlir::Location loc);
  void lowerStart(dist::StartOp op);
  void lowerWait(dist::WaitOp op);
  void shareOrCopy(mlir::Operation* op, mlir::StringAttr operand,
                   mlir::Value result);
  plan::CollectiveOp createCollective(mlir::Operation* op, mlir::StringRef kind,
                                      mlir::DictionaryAttr args,
                                      mlir::StringAttr send,
                                      mlir::StringAttr recv, int64_t bytes,
                                      mlir::Type element, int64_t stream);
  void createCopy(mlir::Operation* op, mlir::StringAttr from,
                  mlir::StringAttr to, int64_t bytes,
                  mlir::Attribute sendOffset);
  mlir::StringAttr gatherBuffer(mlir::Operation* op, mlir::DictionaryAttr args,
                                mlir::Value result);

  mlir::ModuleOp module_;
  StageBuffers& buffers_;
  mlir::OpBuilder& builder_;
  int64_t transferStream_ = 0;
  int64_t numEvents_ = 0;
  mlir::DenseMap<mlir::Operation*, int64_t> doneEvents_; // of dist.start
  plan::CollectiveOp bucket_;                 // of the last dist.start
  mlir::SmallVector<int64_t> gathersInPlace_; // events of those that still run
};

} // namespace llmc
