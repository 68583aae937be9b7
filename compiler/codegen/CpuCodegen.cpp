// SPDX-License-Identifier: Apache-2.0
// Order of the steps: kernel -> linalg -> scf and vector -> LLVM dialect ->
// LLVM IR, once for all levels; then an object for each level, on two threads;
// then the links.
#include "compiler/codegen/CpuCodegen.h"

#include "compiler/codegen/Bitcode.h"
#include "compiler/codegen/EmitObject.h"
#include "compiler/codegen/LowerKernelToLinalg.h"
#include "compiler/codegen/LowerLinalgToVector.h"

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/LLVMCommon/ConversionTarget.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVM.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Transforms/DialectConversion.h"

#include <optional>

using namespace mlir;

namespace llmc {
namespace {

LogicalResult convertToLlvmDialect(ModuleOp module) {
  MLIRContext* context = module.getContext();
  LLVMTypeConverter converter(context);
  RewritePatternSet patterns(context);
  populateSCFToControlFlowConversionPatterns(patterns);
  cf::populateControlFlowToLLVMConversionPatterns(converter, patterns);
  arith::populateArithToLLVMConversionPatterns(converter, patterns);
  populateMathToLLVMConversionPatterns(converter, patterns);
  populateVectorToLLVMConversionPatterns(converter, patterns);
  LLVMConversionTarget target(*context);
  target.addLegalOp<ModuleOp>();
  return applyFullConversion(module, target, std::move(patterns));
}

/// Simplified LLVM IR of a module of vector code, in bitcode: the same for all
/// levels.
FailureOr<std::string> makeBitcode(ModuleOp code) {
  if (failed(convertToLlvmDialect(code)))
    return failure();
  return translateToBitcode(code, optimizeForCpu);
}

} // namespace

void registerCpuCodegenDialects(DialectRegistry& registry) {
  registry
      .insert<arith::ArithDialect, cf::ControlFlowDialect, func::FuncDialect,
              linalg::LinalgDialect, LLVM::LLVMDialect, math::MathDialect,
              scf::SCFDialect, tensor::TensorDialect, vector::VectorDialect>();
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
}

FailureOr<std::vector<CodeObject>>
generateCpuCode(ModuleOp module, ArrayRef<plan::KernelOp> kernels,
                ArrayRef<int> levels) {
  MLIRContext* context = module.getContext();
  DialectRegistry registry;
  registerCpuCodegenDialects(registry);
  context->appendDialectRegistry(registry);
  for (StringRef name : registry.getDialectNames())
    context->getOrLoadDialect(name);
  OwningOpRef<ModuleOp> code = ModuleOp::create(module.getLoc());
  OpBuilder builder = OpBuilder::atBlockEnd(code->getBody());
  for (plan::KernelOp kernel : kernels) {
    FailureOr<func::FuncOp> form = lowerKernelToLinalg(kernel, builder);
    if (failed(form) ||
        failed(lowerLinalgToVector(*form, kernel.getElementwise(), builder)))
      return failure();
    form->erase();
  }
  return compileVectorCode(*code, levels);
}

FailureOr<std::vector<CodeObject>> compileVectorCode(ModuleOp code,
                                                     ArrayRef<int> levels) {
  FailureOr<std::string> bitcode = makeBitcode(code);
  if (failed(bitcode))
    return failure();
  using Object = llvm::Expected<llvm::SmallVector<char, 0>>;
  std::vector<std::optional<Object>> objects(levels.size());
  forEachOnTwoThreads(levels.size(), [&](size_t i) {
    objects[i].emplace(emitObject(*bitcode, levels[i]));
  });
  std::vector<CodeObject> result;
  std::string failureText;
  for (size_t i = 0; i < levels.size(); ++i) {
    Object& object = *objects[i];
    if (!object) {
      failureText = llvm::toString(object.takeError());
      continue;
    }
    auto image = linkSharedObject(*object);
    if (!image) {
      failureText = llvm::toString(image.takeError());
      continue;
    }
    result.push_back({"cpu", levels[i], std::move(*image)});
  }
  if (!failureText.empty())
    return emitDefect(code) << failureText;
  return result;
}

} // namespace llmc
