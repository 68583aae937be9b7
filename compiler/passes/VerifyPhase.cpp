// SPDX-License-Identifier: Apache-2.0
// Ends each phase: checks that what the phase promises holds, so that a fault is found
// where it was made and a dump that was edited by hand is refused before it is compiled.
#include "compiler/passes/Passes.h"
#include "compiler/passes/Shardings.h"

#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_VERIFYPHASE
#include "compiler/passes/Passes.h.inc"

namespace {

bool isStatic(Type type) {
  auto shaped = dyn_cast<ShapedType>(type);
  return !shaped || shaped.hasStaticShape();
}

/// step: static shapes; nothing that only a model has.
LogicalResult verifyStep(Operation* op) {
  if (isa<llm::AttentionOp, llm::OutputRowsOp>(op))
    return op->emitOpError("belongs to a model, not to a step");
  for (Type type : op->getResultTypes())
    if (!isStatic(type))
      return op->emitOpError("has a dynamic shape in a step");
  return success();
}

/// sharded: mechanism only.
LogicalResult verifySharded(Operation* op) {
  if (failed(verifyStep(op)))
    return failure();
  if (isa<dist::ReshardOp, dist::ZeroGatherOp, dist::PipelineStageOp>(op))
    return op->emitOpError("is intent, not a collective, after sharding");
  if (op->hasAttr(kShardingAttr))
    return op->emitOpError("still has ") << kShardingAttr;
  return success();
}

/// kernels: launches, collectives and what they read.
LogicalResult verifyKernels(Operation* op) {
  if (op->getParentOfType<plan::KernelOp>())
    return success();
  auto* dialect = op->getDialect();
  bool isCompute = isa_and_nonnull<llm::LlmDialect>(dialect) &&
                   !isa<llm::ParamOp, llm::CacheOp, llm::GetParamOp,
                        llm::GetCacheOp>(op);
  if (isCompute || isa<plan::FusedOp, func::CallOp>(op))
    return op->emitOpError("is not a launch of a kernel");
  return success();
}

/// plan: no functions, every buffer has its place inside the arena.
LogicalResult verifyPlanPhase(Operation* op) {
  if (isa<func::FuncOp>(op))
    return op->emitOpError("is left over in a plan");
  auto buffer = dyn_cast<plan::BufferOp>(op);
  if (!buffer)
    return success();
  auto stage = buffer->getParentOfType<plan::StageOp>();
  int64_t offset = buffer.getOffset().value_or(-1);
  int64_t arena = stage.getArenaBytes().value_or(0);
  if (offset < 0 || offset + static_cast<int64_t>(buffer.getBytes()) > arena)
    return buffer.emitOpError("lies outside the arena of ") << arena
                                                            << " bytes";
  return success();
}

struct VerifyPhasePass : impl::VerifyPhaseBase<VerifyPhasePass> {
  using VerifyPhaseBase::VerifyPhaseBase;

  void runOnOperation() override {
    auto check = llvm::StringSwitch<LogicalResult (*)(Operation*)>(phase)
                     .Case("step", verifyStep)
                     .Case("sharded", verifySharded)
                     .Case("kernels", verifyKernels)
                     .Case("plan", verifyPlanPhase)
                     .Default(nullptr);
    if (!check) {
      getOperation().emitError("no phase '") << phase << "'";
      return signalPassFailure();
    }
    WalkResult result = getOperation().walk([&](Operation* op) {
      return failed(check(op)) ? WalkResult::interrupt()
                               : WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
} // namespace llmc
