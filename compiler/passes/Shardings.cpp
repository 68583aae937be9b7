// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/Shardings.h"

#include <algorithm>

namespace llmc {
namespace {

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

} // namespace

ElementRange rangeOf(dist::DimSplitAttr split, int64_t coordinate,
                     int64_t ranks) {
  int64_t units = split.getGlobal() / split.getUnit();
  int64_t group = split.getGroup();
  // Query units: what the cut is even over.
  int64_t queries = units * group, run = ceilDiv(queries, ranks);
  int64_t begin = std::min(queries, coordinate * run);
  int64_t end = std::min(queries, begin + run);
  if (begin == end)
    return {0, 0};
  int64_t first = begin / group, last = (end - 1) / group;
  return {first * split.getUnit(), (last - first + 1) * split.getUnit()};
}

int64_t localSize(dist::DimSplitAttr split, int64_t ranks) {
  int64_t most = 0;
  for (int64_t r = 0; r < ranks; ++r)
    most = std::max(most, rangeOf(split, r, ranks).count);
  return most;
}

int64_t headOffset(dist::DimSplitAttr keySplit, int64_t coordinate,
                   int64_t ranks) {
  int64_t units = keySplit.getGlobal() / keySplit.getUnit();
  int64_t queries = units * keySplit.getGroup();
  int64_t begin = std::min(queries, coordinate * ceilDiv(queries, ranks));
  return begin % keySplit.getGroup();
}

bool isSharedByStages(mlir::Operation* op) {
  if (isa<llm::GetParamOp, llm::GetCacheOp, llm::ReadStateOp>(op))
    return true;
  if (!isa<dist::ReshardOp, llm::TokenWeightsOp>(op))
    return false;
  return llvm::all_of(op->getOperands(), [](mlir::Value v) {
    return isa<mlir::BlockArgument>(v) || isSharedByStages(v.getDefiningOp());
  });
}

void beginStageAt(mlir::Operation* first, int64_t stage) {
  mlir::OpBuilder builder(first);
  auto isFromHere = [&](mlir::OpOperand& use) {
    mlir::Operation* user = use.getOwner();
    return user == first || first->isBeforeInBlock(user);
  };
  llvm::SmallVector<mlir::Operation*> before;
  for (mlir::Operation& op : *first->getBlock()) {
    if (&op == first)
      break;
    if (!isSharedByStages(&op))
      before.push_back(&op);
  }
  for (mlir::Operation* op : before)
    for (mlir::Value value : op->getResults()) {
      bool isRead = llvm::any_of(value.getUses(), [&](mlir::OpOperand& use) {
        return isFromHere(use) &&
               !use.getOwner()->hasTrait<mlir::OpTrait::IsTerminator>();
      });
      if (!isRead)
        continue;
      auto crossing = dist::PipelineStageOp::create(
          builder, op->getLoc(), value.getType(), value, stage);
      value.replaceUsesWithIf(crossing.getResult(), [&](mlir::OpOperand& use) {
        return use.getOwner() != crossing && isFromHere(use);
      });
    }
}

bool hasSharedUnits(dist::DimSplitAttr split, int64_t ranks) {
  int64_t end = 0;
  for (int64_t r = 0; r < ranks; ++r) {
    ElementRange range = rangeOf(split, r, ranks);
    if (range.count > 0 && range.offset < end)
      return true;
    end = std::max(end, range.offset + range.count);
  }
  return false;
}

bool isSameCut(dist::DimSplitAttr a, dist::DimSplitAttr b) {
  auto queries = [](dist::DimSplitAttr s) {
    return s.getGlobal() / s.getUnit() * s.getGroup();
  };
  return a.getAxis() == b.getAxis() && queries(a) == queries(b);
}

} // namespace llmc
