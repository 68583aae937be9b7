// SPDX-License-Identifier: Apache-2.0
// Order of the steps: kernel -> linalg -> gpu, scf and vector -> nvvm and llvm
// dialects -> LLVM IR, once for all architectures; then PTX and a cubin for
// each, on two threads.
#include "compiler/codegen/CudaCodegen.h"

#include "compiler/codegen/Bitcode.h"
#include "compiler/codegen/CpuCodegen.h"
#include "compiler/codegen/EmitPtx.h"
#include "compiler/codegen/LowerKernelToLinalg.h"
#include "compiler/codegen/LowerLinalgToGpu.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Transforms/DialectConversion.h"

#include <optional>

using namespace mlir;

namespace llmc {
namespace {

/// One image to make.
struct Wanted {
  CudaArchitecture architecture;
  bool isPtx;
};

std::vector<Wanted> wantedImages(const Target& target) {
  auto find = [](int number) {
    for (const CudaArchitecture& architecture : cudaArchitectures())
      if (architecture.number == number)
        return architecture;
    llvm_unreachable("a target names known architectures only");
  };
  std::vector<Wanted> wanted;
  for (int number : target.architectures)
    wanted.push_back({find(number), false});
  if (target.ptxArchitecture > 0)
    wanted.push_back({find(target.ptxArchitecture), true});
  return wanted;
}

llvm::Expected<CodeObject> makeImage(const Wanted& wanted,
                                     llvm::StringRef bitcode,
                                     llvm::StringRef ptxas) {
  auto ptx = emitPtx(bitcode, wanted.architecture);
  if (!ptx)
    return ptx.takeError();
  int level = wanted.architecture.number;
  if (wanted.isPtx)
    return CodeObject{"cuda-ptx", level,
                      std::vector<uint8_t>(ptx->begin(), ptx->end())};
  auto cubin = assemblePtx(ptxas, *ptx, wanted.architecture);
  if (!cubin)
    return llvm::createStringError(
        "LLMC-E1009: " + llvm::toString(cubin.takeError()) +
        "; use a newer CUDA toolkit, or --target=cuda:ptx, which needs none");
  return CodeObject{"cuda", level, std::move(*cubin)};
}

} // namespace

void registerCudaCodegenDialects(DialectRegistry& registry) {
  registerCpuCodegenDialects(registry);
  registry.insert<gpu::GPUDialect, memref::MemRefDialect, NVVM::NVVMDialect>();
  registerGPUDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}

FailureOr<gpu::GPUModuleOp> lowerKernelsToGpu(ArrayRef<plan::KernelOp> kernels,
                                              OpBuilder& builder) {
  OpBuilder::InsertionGuard guard(builder);
  auto code =
      gpu::GPUModuleOp::create(builder, builder.getUnknownLoc(), "kernels");
  builder.setInsertionPointToEnd(code.getBody());
  for (plan::KernelOp kernel : kernels) {
    FailureOr<func::FuncOp> form = lowerKernelToLinalg(kernel, builder);
    if (failed(form) ||
        failed(lowerLinalgToGpu(*form, kernel.getElementwise(), builder)))
      return failure();
    form->erase();
  }
  return code;
}

LogicalResult convertToNvvm(gpu::GPUModuleOp module) {
  MLIRContext* context = module.getContext();
  LLVMTypeConverter converter(context);
  configureGpuToNVVMTypeConverter(converter);
  RewritePatternSet patterns(context);
  populateSCFToControlFlowConversionPatterns(patterns);
  cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
  arith::populateArithToLLVMConversionPatterns(converter, patterns);
  // Before the patterns that call libdevice, which come with those of the gpu
  // dialect: what is left of math has instructions.
  populateMathToLLVMConversionPatterns(converter, patterns,
                                       /*approximateLog1p=*/false,
                                       /*benefit=*/2);
  populateVectorToLLVMConversionPatterns(converter, patterns);
  populateFinalizeMemRefToLLVMConversionPatterns(converter, patterns);
  populateGpuToNVVMConversionPatterns(converter, patterns);
  LLVMConversionTarget target(*context);
  target.addLegalDialect<NVVM::NVVMDialect>();
  target.addLegalOp<gpu::GPUModuleOp>();
  return applyFullConversion(module, target, std::move(patterns));
}

FailureOr<std::string> makeCudaBitcode(gpu::GPUModuleOp code) {
  if (failed(convertToNvvm(code)))
    return failure();
  return translateToBitcode(code, optimizeForCuda);
}

FailureOr<std::vector<CodeObject>>
generateCudaCode(ModuleOp module, ArrayRef<plan::KernelOp> kernels,
                 const Target& target) {
  std::vector<Wanted> wanted = wantedImages(target);
  std::optional<std::string> ptxas = findPtxas();
  if (!ptxas && !target.architectures.empty())
    return module.emitError(
               "LLMC-E1009: no ptxas in PATH, nor in bin below CUDA_HOME (or "
               "/usr/local/cuda), which makes the machine code of ")
           << target.text()
           << ": install the CUDA toolkit, or compile with --target=cuda:ptx, "
              "which needs none";
  MLIRContext* context = module.getContext();
  DialectRegistry registry;
  registerCudaCodegenDialects(registry);
  context->appendDialectRegistry(registry);
  for (StringRef name : registry.getDialectNames())
    context->getOrLoadDialect(name);
  OwningOpRef<ModuleOp> outer = ModuleOp::create(module.getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(outer->getBody());
  FailureOr<gpu::GPUModuleOp> code = lowerKernelsToGpu(kernels, builder);
  if (failed(code))
    return failure();
  FailureOr<std::string> bitcode = makeCudaBitcode(*code);
  if (failed(bitcode))
    return failure();
  std::vector<std::optional<llvm::Expected<CodeObject>>> images(wanted.size());
  forEachOnTwoThreads(wanted.size(), [&](size_t i) {
    images[i].emplace(
        makeImage(wanted[i], *bitcode, ptxas.value_or(std::string())));
  });
  std::vector<CodeObject> result;
  std::string failureText;
  for (auto& image : images) {
    if (*image)
      result.push_back(std::move(**image));
    else
      failureText = llvm::toString(image->takeError());
  }
  if (StringRef(failureText).starts_with("LLMC-"))
    return module.emitError(failureText);
  if (!failureText.empty())
    return emitDefect(module) << failureText;
  return result;
}

} // namespace llmc
