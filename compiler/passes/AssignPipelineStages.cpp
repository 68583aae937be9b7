// SPDX-License-Identifier: Apache-2.0
// Cuts the layers of each entry into contiguous runs of nearly equal cost, one
// for each stage, or for each chunk of a stage (virtual stages). Cost is the
// bytes of parameters that a call reads: decode is bound by them, and prefill's
// FLOPs are proportional to them. The embedding lookup reads rows, not the
// table.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"
#include "compiler/passes/TrainingForward.h"
#include "compiler/passes/WeightStorage.h"
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
      llm::ParamOp blocks = paramInBlocks(operand);
      bytes += blocks
                   ? storedBytes(blocks, type)
                   : type.getNumElements() * type.getElementTypeBitWidth() / 8;
    }
  return bytes;
}

/// Calls that stay together: a layer, after that of a reference model beside
/// it.
using Layer = SmallVector<func::CallOp, 2>;

SmallVector<Layer> layersOf(func::FuncOp entry) {
  SmallVector<Layer> layers;
  bool isOpen = false;
  for (auto call : entry.getOps<func::CallOp>()) {
    if (!isOpen)
      layers.emplace_back();
    layers.back().push_back(call);
    isOpen = call->hasAttr(kReferenceAttr);
  }
  return layers;
}

LogicalResult assign(func::FuncOp entry, int64_t stages,
                     int64_t virtualStages) {
  SmallVector<Layer> layers = layersOf(entry);
  int64_t numLayers = layers.size();
  if (numLayers < stages * virtualStages)
    return entry.emitError("LLMC-E1002: pp=")
           << stages
           << (virtualStages > 1 ? " with " + std::to_string(virtualStages) +
                                       " virtual stages"
                                 : std::string())
           << " for a model of " << numLayers << " layers; use at most "
           << numLayers / virtualStages;
  std::vector<int64_t> costs;
  for (const Layer& layer : layers) {
    costs.push_back(0);
    for (func::CallOp call : layer)
      costs.back() += parameterBytes(call);
  }
  int64_t headCost = 0;
  for (Operation* op = layers.back().back()->getNextNode(); op;
       op = op->getNextNode())
    headCost += parameterBytes(op);
  auto starts = schedule::balanceLayers({costs, /*embedding=*/0, headCost},
                                        stages, virtualStages);
  if (!starts.ok())
    return entry.emitError(std::string(starts.status().message()));
  Builder b(entry.getContext());
  int64_t stage = 0;
  for (auto [i, layer] : llvm::enumerate(layers)) {
    bool isFirst = stage + 1 < static_cast<int64_t>(starts->size()) &&
                   static_cast<int64_t>(i) == (*starts)[stage + 1];
    if (isFirst)
      beginStageAt(layer.front(), ++stage);
    for (func::CallOp call : layer)
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
    Options options = Options::read(getOperation());
    bool isTraining = options.mode == "train";
    for (auto func : getOperation().getOps<func::FuncOp>())
      if (func->hasAttr(llm::LlmDialect::kEntryAttr) &&
          // The other segments of a training step follow `forward`.
          (!isTraining || func.getName() == "step.forward") &&
          failed(assign(func, stages, isTraining ? options.virtualStages : 1)))
        return signalPassFailure();
  }
};

} // namespace
} // namespace llmc
