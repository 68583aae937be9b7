// SPDX-License-Identifier: Apache-2.0
// Cuts the layers of each entry into pp contiguous runs of nearly equal cost. Cost is the
// bytes of parameters that a stage reads per call: decode is bound by them, and prefill's
// FLOPs are proportional to them. The embedding lookup reads rows, not the table.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"
#include "compiler/schedule/BalanceLayers.h"

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

LogicalResult assign(func::FuncOp entry, int64_t stages) {
  SmallVector<func::CallOp> layers(entry.getOps<func::CallOp>());
  if (static_cast<int64_t>(layers.size()) < stages)
    return entry.emitError("LLMC-E1002: pp=")
           << stages << " for a model of " << layers.size()
           << " layers; use at most " << layers.size();
  std::vector<int64_t> costs;
  for (func::CallOp call : layers)
    costs.push_back(parameterBytes(call));
  int64_t headCost = 0;
  for (Operation* op = layers.back()->getNextNode(); op; op = op->getNextNode())
    headCost += parameterBytes(op);
  auto starts = schedule::balanceLayers({costs, /*embedding=*/0, headCost},
                                        stages, /*virtualStages=*/1);
  if (!starts.ok())
    return entry.emitError(std::string(starts.status().message()));
  Builder b(entry.getContext());
  int64_t stage = 0;
  for (auto [i, call] : llvm::enumerate(layers)) {
    bool isFirst = stage + 1 < static_cast<int64_t>(starts->size()) &&
                   static_cast<int64_t>(i) == (*starts)[stage + 1];
    if (isFirst) {
      ++stage;
      beginStageAt(call, stage);
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
