// SPDX-License-Identifier: Apache-2.0
// The order of passes lives here alone, with one line of reason each.
#include "compiler/passes/Pipeline.h"

#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"

#include "mlir/IR/OperationSupport.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/ToolOutputFile.h"

using namespace mlir;

namespace llmc {
namespace {

constexpr bool kOptional = true, kNeeded = false;

template <std::unique_ptr<Pass> (*make)()>
std::unique_ptr<Pass> create() {
  return make();
}

// LowerKernelsToGpu is for reading: no phase runs it.
const PipelineStep kSteps[] = {
    {"step", "build-inference-step", "everything after works on static rows",
     kNeeded, create<createBuildInferenceStep>, "infer"},
    {"step", "build-training-step", "everything after works on static rows",
     kNeeded, create<createBuildTrainingStep>, "train"},
    {"step", "recompute-activations",
     "layers are functions and values are whole: one decision for all of them",
     kOptional, create<createRecomputeActivations>, "train"},
    {"sharded", "propagate-tensor-split",
     "whole layers are still functions: one decision for all of them", kNeeded,
     create<createPropagateTensorSplit>},
    {"sharded", "partition-tensor-split",
     "needs the decisions and nothing else", kNeeded,
     create<createPartitionTensorSplit>},
    {"sharded", "assign-pipeline-stages",
     "costs are those of one tensor-split rank", kNeeded,
     create<createAssignPipelineStages>},
    {"sharded", "split-pipeline-stages",
     "before ZeRO, so that a stage gathers only what it uses", kNeeded,
     create<createSplitPipelineStages>, "infer"},
    {"sharded", "split-training-stages",
     "before ZeRO, so that a stage gathers only what it uses", kNeeded,
     create<createSplitTrainingStages>, "train"},
    {"sharded", "insert-zero-gathers", "shards what tensor split left", kNeeded,
     create<createInsertZeroGathers>},
    {"sharded", "shard-over-data",
     "needs to know which parameters are gathered", kNeeded,
     create<createShardOverData>, "train"},
    {"sharded", "lower-to-collectives",
     "intent becomes mechanism once all intent is there", kNeeded,
     create<createLowerToCollectives>},
    {"kernels", "inline-blocks", "fusion and prefetch look across layers",
     kNeeded, create<createInlineBlocks>},
    {"kernels", "split-weight-gradients",
     "needs every op of a segment side by side", kNeeded,
     create<createSplitWeightGradients>, "train"},
    {"kernels", "prefetch-collectives",
     "moves gathers before anything else hides them", kOptional,
     create<createPrefetchCollectives>},
    {"kernels", "overlap-reductions",
     "moves reductions before kernels take their additions over", kOptional,
     create<createOverlapReductions>, "train"},
    {"kernels", "round-factors",
     "before other fusions, so that rounding joins what makes a factor",
     kOptional, create<createRoundFactors>, "train", "cuda"},
    {"kernels", "fuse-few-row-products",
     "before other fusions take the ops around a product", kOptional,
     create<createFuseFewRowProducts>, "infer", "cuda"},
    {"kernels", "fuse-many-row-products",
     "before other fusions take the ops behind a product", kOptional,
     create<createFuseManyRowProducts>, /*mode=*/"", "cuda"},
    {"kernels", "fuse-rope-append", "before rope and append become launches",
     kOptional, create<createFuseRopeAppend>},
    {"kernels", "fuse-row-ops", "before single row ops become regions",
     kOptional, create<createFuseRowOps>},
    {"kernels", "select-kernels", "what fusion left", kNeeded,
     create<createSelectKernels>},
    {"kernels", "outline-kernels",
     "regions are final: equal ones become one kernel", kNeeded,
     create<createOutlineKernels>},
    {"kernels", "merge-linears", "matrix products are launches now", kOptional,
     create<createMergeLinears>},
    {"kernels", "fuse-slots",
     "merged products take prologue and epilogues once", kOptional,
     create<createFuseSlots>, /*mode=*/"", /*target=*/"cpu"},
    {"plan", "lower-to-plan", "order of commands is final", kNeeded,
     create<createLowerToPlan>},
    {"plan", "assign-memory", "all buffers and their lifetimes are known",
     kNeeded, create<createAssignMemory>},
};

const StringRef kPhases[] = {"model", "step", "sharded", "kernels", "plan"};

size_t phaseIndex(StringRef phase) {
  return llvm::find(kPhases, phase) - std::begin(kPhases);
}

LogicalResult dump(ModuleOp module, StringRef folder, size_t phase) {
  if (folder.empty())
    return success();
  SmallString<128> path(folder);
  llvm::sys::path::append(path, "0" + std::to_string(phase) + "-" +
                                    kPhases[phase].str() + ".mlir");
  std::error_code error = llvm::sys::fs::create_directories(folder);
  llvm::ToolOutputFile file(path, error, llvm::sys::fs::OF_None);
  auto refuse = [&](std::error_code why) {
    bool isFull = why == std::errc::no_space_on_device;
    return module.emitError(isFull ? "LLMC-E0105: " : "LLMC-E0104: ")
           << "cannot write " << path << ": " << why.message();
  };
  if (error)
    return refuse(error);
  OpPrintingFlags flags;
  flags.enableDebugInfo(/*enable=*/true, /*prettyForm=*/false);
  module.print(file.os(), flags);
  file.os() << "\n";
  file.os().close();
  if (file.os().has_error()) {
    error = file.os().error();
    file.os().clear_error();
    return refuse(error);
  }
  file.keep();
  return success();
}

} // namespace

ArrayRef<PipelineStep> pipelineSteps() { return kSteps; }

ArrayRef<StringRef> pipelinePhases() { return kPhases; }

LogicalResult runPipeline(ModuleOp module, const PipelineRequest& request) {
  size_t from = phaseIndex(request.from), to = phaseIndex(request.to);
  Options options = Options::read(module);
  llvm::StringRef target = options.isCuda() ? "cuda" : "cpu";
  if (from > 0) {
    // A dump may have been edited by hand.
    PassManager manager(module.getContext());
    VerifyPhaseOptions verify;
    verify.phase = request.from;
    manager.addPass(createVerifyPhase(verify));
    if (failed(manager.run(module)))
      return failure();
  }
  if (failed(dump(module, request.dumpFolder, from)))
    return failure();
  for (size_t phase = from + 1; phase <= to; ++phase) {
    PassManager manager(module.getContext());
    if (request.configure)
      request.configure(manager);
    for (const PipelineStep& step : kSteps)
      if (step.phase == kPhases[phase] &&
          (step.mode.empty() || step.mode == options.mode) &&
          (step.target.empty() || step.target == target) &&
          !llvm::is_contained(request.disabled, step.name.str()))
        manager.addPass(step.create());
    VerifyPhaseOptions verify;
    verify.phase = kPhases[phase].str();
    manager.addPass(createVerifyPhase(verify));
    if (failed(manager.run(module)) ||
        failed(dump(module, request.dumpFolder, phase)))
      return failure();
  }
  return success();
}

} // namespace llmc
