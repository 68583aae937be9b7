// SPDX-License-Identifier: Apache-2.0
// Cuts the layers of each entry into pp contiguous runs of nearly equal cost. Cost is the
// bytes of parameters that a stage reads per call: decode is bound by them, and prefill's
// FLOPs are proportional to them. The embedding lookup reads rows, not the table.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_ASSIGNPIPELINESTAGES
#include "compiler/passes/Passes.h.inc"

namespace {

int64_t parameterBytes(Operation* op) {
  int64_t bytes = 0;
  for (Value operand : op->getOperands())
    if (operand.getDefiningOp<llm::GetParamOp>()) {
      auto type = cast<RankedTensorType>(operand.getType());
      bytes += type.getNumElements() * type.getElementTypeBitWidth() / 8;
    }
  return bytes;
}

/// Number of stages that layers of these costs need if none may cost more than `limit`
/// (the head's cost counts in the last); fills first layer of each stage.
int64_t stagesUnder(ArrayRef<int64_t> costs, int64_t headCost, int64_t limit,
                    SmallVector<int64_t>& starts) {
  starts = {0};
  int64_t sum = 0;
  for (auto [i, cost] : llvm::enumerate(costs)) {
    int64_t withHead = cost + (i + 1 == costs.size() ? headCost : 0);
    if (i > 0 && sum + withHead > limit) {
      starts.push_back(i);
      sum = 0;
    }
    sum += withHead;
    if (withHead > limit)
      return costs.size() + 1;
  }
  return starts.size();
}

/// First layer of each of `stages` stages. Each stage has at least one layer.
SmallVector<int64_t> balance(ArrayRef<int64_t> costs, int64_t headCost,
                             int64_t stages) {
  int64_t low = 1, high = headCost + 1;
  for (int64_t cost : costs)
    high += cost;
  SmallVector<int64_t> starts, best;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (stagesUnder(costs, headCost, middle, starts) <= stages)
      high = middle;
    else
      low = middle + 1;
  }
  stagesUnder(costs, headCost, high, best);
  // Fewer runs than stages: split the longest ones.
  while (static_cast<int64_t>(best.size()) < stages) {
    size_t longest = 0;
    int64_t most = 0;
    for (size_t i = 0; i < best.size(); ++i) {
      int64_t end = i + 1 < best.size() ? best[i + 1] : costs.size();
      if (end - best[i] > most) {
        most = end - best[i];
        longest = i;
      }
    }
    best.insert(best.begin() + longest + 1, best[longest] + (most + 1) / 2);
  }
  return best;
}

LogicalResult assign(func::FuncOp entry, int64_t stages) {
  SmallVector<func::CallOp> layers(entry.getOps<func::CallOp>());
  if (static_cast<int64_t>(layers.size()) < stages)
    return entry.emitError("LLMC-E1002: pp=")
           << stages << " for a model of " << layers.size()
           << " layers; use at most " << layers.size();
  SmallVector<int64_t> costs;
  for (func::CallOp call : layers)
    costs.push_back(parameterBytes(call));
  int64_t headCost = 0;
  for (Operation* op = layers.back()->getNextNode(); op; op = op->getNextNode())
    headCost += parameterBytes(op);
  SmallVector<int64_t> starts = balance(costs, headCost, stages);
  Builder b(entry.getContext());
  int64_t stage = 0;
  for (auto [i, call] : llvm::enumerate(layers)) {
    bool isFirst = stage + 1 < static_cast<int64_t>(starts.size()) &&
                   static_cast<int64_t>(i) == starts[stage + 1];
    if (isFirst) {
      ++stage;
      OpBuilder builder(call);
      for (OpOperand& operand : call->getOpOperands()) {
        Operation* def = operand.get().getDefiningOp();
        if (!def || isSharedByStages(def))
          continue;
        auto crossing = dist::PipelineStageOp::create(
            builder, def->getLoc(), operand.get().getType(), operand.get(),
            stage);
        operand.get().replaceAllUsesExcept(crossing.getResult(), crossing);
      }
    }
    call->setAttr("dist.stage", b.getI64IntegerAttr(stage));
  }
  return success();
}

struct AssignPipelineStagesPass
    : impl::AssignPipelineStagesBase<AssignPipelineStagesPass> {
  void runOnOperation() override {
    int64_t stages = meshAxisSize(getOperation(), "pp");
    if (stages == 1)
      return;
    bool isTraining = Options::read(getOperation()).mode == "train";
    for (auto func : getOperation().getOps<func::FuncOp>())
      if (func->hasAttr(llm::LlmDialect::kEntryAttr) &&
          // The other segments of a training step follow `forward`.
          (!isTraining || func.getName() == "step.forward") &&
          failed(assign(func, stages)))
        return signalPassFailure();
  }
};

} // namespace
} // namespace llmc
