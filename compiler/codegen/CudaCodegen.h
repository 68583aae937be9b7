// SPDX-License-Identifier: Apache-2.0
// Machine code for generated kernels on CUDA: a cubin for each architecture and
// PTX text, to be stored in a plan. It generates no hand-tuned kernel and loads
// nothing. docs/design/cuda.md says how the code looks.
#pragma once

#include "compiler/codegen/CodeObject.h"
#include "compiler/target/Target.h"
#include "dialects/plan/Plan.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace llmc {

/// Adds the dialects that generateCudaCode creates ops of, and their
/// translations: see registerCpuCodegenDialects.
void registerCudaCodegenDialects(mlir::DialectRegistry& registry);

/// Generates what `target` (a CUDA one) names. Each image has a kernel under
/// the symbol of each plan.kernel and needs no symbol of others; the same
/// kernels give the same bytes. Tiles, words and alignment: LowerLinalgToGpu.h.
/// Errors  a body or type that cannot be generated, no ptxas, or one that does
/// not know an architecture: a diagnostic.
mlir::FailureOr<std::vector<CodeObject>>
generateCudaCode(mlir::ModuleOp module, llvm::ArrayRef<plan::KernelOp> kernels,
                 const Target& target);

/// The steps before those of one architecture, for tests and llmc-opt: a
/// gpu.module with one gpu.func for each kernel.
mlir::FailureOr<mlir::gpu::GPUModuleOp>
lowerKernelsToGpu(llvm::ArrayRef<plan::KernelOp> kernels,
                  mlir::OpBuilder& builder);

/// Converts a gpu.module to the nvvm and llvm dialects.
mlir::LogicalResult convertToNvvm(mlir::gpu::GPUModuleOp module);

/// Takes a gpu.module through convertToNvvm to simplified LLVM IR, in bitcode:
/// the same for all architectures.
mlir::FailureOr<std::string> makeCudaBitcode(mlir::gpu::GPUModuleOp module);

} // namespace llmc
