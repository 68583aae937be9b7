// SPDX-License-Identifier: Apache-2.0
// Shows what code generation for CUDA makes of a module's kernels before LLVM
// takes over. EmitPlan does the same on its own.
#include "compiler/codegen/CudaCodegen.h"
#include "compiler/passes/Passes.h"

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_LOWERKERNELSTOGPU
#include "compiler/passes/Passes.h.inc"

namespace {

struct LowerKernelsToGpuPass
    : impl::LowerKernelsToGpuBase<LowerKernelsToGpuPass> {
  using LowerKernelsToGpuBase::LowerKernelsToGpuBase;

  void getDependentDialects(DialectRegistry& registry) const override {
    LowerKernelsToGpuBase::getDependentDialects(registry);
    registerCudaCodegenDialects(registry);
  }

  void runOnOperation() override {
    SmallVector<plan::KernelOp> kernels = llvm::filter_to_vector(
        getOperation().getOps<plan::KernelOp>(),
        [](plan::KernelOp k) { return k.isGenerated(); });
    OpBuilder builder = OpBuilder::atBlockEnd(getOperation().getBody());
    FailureOr<gpu::GPUModuleOp> code = lowerKernelsToGpu(kernels, builder);
    if (failed(code) || (toNvvm && failed(convertToNvvm(*code))))
      signalPassFailure();
  }
};

} // namespace
} // namespace llmc
