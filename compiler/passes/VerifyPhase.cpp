// SPDX-License-Identifier: Apache-2.0
// Ends each phase: checks that what the phase promises holds, so that a fault
// is found where it was made and a dump that was edited by hand is refused
// before it is compiled.
#include "compiler/passes/Buckets.h"
#include "compiler/passes/KernelTile.h"
#include "compiler/passes/Options.h"
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

/// A plan calls only kernels that have a form on its target; for cuda without
/// slots.
LogicalResult verifyOnTarget(Operation* op, FlatSymbolRefAttr symbol,
                             ArrayAttr slots, bool isCuda,
                             const SymbolTable& module) {
  auto kernel = module.lookup<plan::KernelOp>(symbol.getValue());
  if (!kernel)
    return success(); // other checks name it
  if (!kernel.isGenerated() && !handTunedTile(*kernel.getHandTuned(), isCuda))
    return op->emitError("LLMC-E1003: kernel ")
           << *kernel.getHandTuned()
           << (isCuda ? " has no form on cuda yet: compile with --target=cpu"
                      : " exists on cuda only: compile with --target=cuda");
  if (isCuda && slots && !slots.empty())
    return op->emitError("LLMC-E1003: kernel ")
           << symbol.getValue()
           << " has slots, which do not exist on cuda: compile the model again";
  return success();
}

LogicalResult verifyOnTarget(ModuleOp module) {
  SymbolTable symbols(module);
  const bool isCuda = Options::read(module).isCuda();
  WalkResult result = module.walk([&](Operation* op) {
    LogicalResult verified = success();
    if (auto launch = dyn_cast<plan::LaunchOp>(op))
      verified = verifyOnTarget(op, launch.getKernelAttr(),
                                launch.getSlotsAttr(), isCuda, symbols);
    else if (auto run = dyn_cast<plan::RunOp>(op))
      verified = verifyOnTarget(op, run.getKernelAttr(), run.getSlots(), isCuda,
                                symbols);
    return failed(verified) ? WalkResult::interrupt() : WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

/// kernels: launches, collectives and what they read.
LogicalResult verifyKernels(Operation* op) {
  if (op->getParentOfType<plan::KernelOp>())
    return success();
  auto* dialect = op->getDialect();
  bool isCompute = isa_and_nonnull<llm::LlmDialect>(dialect) &&
                   !isa<llm::ParamOp, llm::CacheOp, llm::StateOp,
                        llm::GetParamOp, llm::GetCacheOp, llm::ReadStateOp>(op);
  if (isCompute || isa<plan::FusedOp, func::CallOp>(op))
    return op->emitOpError("is not a launch of a kernel");
  return success();
}

/// A buffer has its place inside the arena.
LogicalResult verifyPlace(plan::BufferOp buffer) {
  auto stage = buffer->getParentOfType<plan::StageOp>();
  if (!stage)
    return buffer.emitOpError("belongs to no stage");
  int64_t offset = buffer.getOffset().value_or(-1);
  int64_t arena = stage.getArenaBytes().value_or(0);
  int64_t bytes = buffer.getBytes();
  if (offset < 0 || bytes < 0 || bytes > arena || offset > arena - bytes)
    return buffer.emitOpError("lies outside the arena of ")
           << arena << " bytes";
  return success();
}

/// Buffers that a command or binding of a stage names.
SmallVector<StringRef> namedBuffers(Operation* op) {
  SmallVector<StringRef> names;
  auto words = [&](llvm::ArrayRef<plan::WordAttr> list) {
    for (plan::WordAttr word : list)
      if (word.getKind() == plan::WordKind::address)
        names.push_back(word.getBuffer() ? word.getBuffer().getValue() : "?");
  };
  if (auto program = dyn_cast<plan::ProgramOp>(op))
    for (DictionaryAttr dict : {program.getInputs(), program.getOutputs()})
      for (NamedAttribute attr : dict)
        if (auto name = dyn_cast<StringAttr>(attr.getValue()))
          names.push_back(name.getValue());
  if (auto parameter = dyn_cast<plan::ParameterOp>(op))
    names.push_back(parameter.getBuffer());
  if (auto cache = dyn_cast<plan::CacheOp>(op))
    names.push_back(cache.getBuffer());
  if (auto state = dyn_cast<plan::StateOp>(op))
    names.push_back(state.getBuffer());
  if (auto collective = dyn_cast<plan::CollectiveOp>(op)) {
    for (StringRef name : {collective.getSend(), collective.getRecv()})
      if (!name.empty())
        names.push_back(name);
    words(partWords(collective));
  }
  if (auto run = dyn_cast<plan::RunOp>(op)) {
    for (ArrayAttr list : {run.getReads(), run.getWrites()})
      for (auto name : list.getAsRange<StringAttr>())
        names.push_back(name.getValue());
    words(llvm::to_vector(run.getWords().getAsRange<plan::WordAttr>()));
    for (auto slot : run.getSlots().getAsRange<plan::SlotWordsAttr>())
      words(slot.getWords());
  }
  return names;
}

/// True if what `op` names outside its stage is there.
bool areSymbolsKnown(Operation* op, const SymbolTable& module) {
  if (auto parameter = dyn_cast<plan::ParameterOp>(op))
    return module.lookup<llm::ParamOp>(parameter.getParam()) != nullptr;
  if (auto cache = dyn_cast<plan::CacheOp>(op))
    return module.lookup<llm::CacheOp>(cache.getCache()) != nullptr;
  if (auto state = dyn_cast<plan::StateOp>(op))
    return module.lookup<llm::StateOp>(state.getState()) != nullptr;
  if (auto action = dyn_cast<plan::ActionOp>(op))
    return module.lookup<plan::EntryOp>(("entry_" + action.getEntry()).str()) !=
           nullptr;
  if (auto program = dyn_cast<plan::ProgramOp>(op))
    return program.getEntry().empty() ||
           module.lookup<plan::EntryOp>(("entry_" + program.getEntry()).str());
  auto run = dyn_cast<plan::RunOp>(op);
  if (!run)
    return true;
  return module.lookup<plan::KernelOp>(run.getKernel()) &&
         llvm::all_of(run.getSlots().getAsRange<plan::SlotWordsAttr>(),
                      [&](plan::SlotWordsAttr slot) {
                        return bool(module.lookup<plan::KernelOp>(
                            slot.getKernel().getValue()));
                      });
}

/// What programs name exists.
LogicalResult verifyNames(plan::StageOp stage, const SymbolTable& module) {
  SymbolTable buffers(stage);
  WalkResult result = stage.walk([&](Operation* op) {
    for (StringRef name : namedBuffers(op))
      if (!buffers.lookup<plan::BufferOp>(name)) {
        op->emitOpError("names a buffer that the stage lacks: ") << name;
        return WalkResult::interrupt();
      }
    if (areSymbolsKnown(op, module))
      return WalkResult::advance();
    op->emitOpError("names what the plan lacks");
    return WalkResult::interrupt();
  });
  return failure(result.wasInterrupted());
}

/// plan: no functions, every buffer in its place, every name known.
LogicalResult verifyPlanPhase(Operation* op) {
  if (isa<func::FuncOp>(op))
    return op->emitOpError("is left over in a plan");
  if (auto buffer = dyn_cast<plan::BufferOp>(op))
    return verifyPlace(buffer);
  auto module = dyn_cast<ModuleOp>(op);
  if (!module)
    return success();
  SymbolTable symbols(module);
  for (auto stage : module.getOps<plan::StageOp>())
    if (failed(verifyNames(stage, symbols)))
      return failure();
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
    bool hasLaunches = phase == "kernels" || phase == "plan";
    if (hasLaunches && failed(verifyOnTarget(getOperation())))
      return signalPassFailure();
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
