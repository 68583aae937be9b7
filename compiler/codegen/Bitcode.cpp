// SPDX-License-Identifier: Apache-2.0
#include "compiler/codegen/Bitcode.h"

#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Bitcode/BitcodeWriter.h"
#include "llvm/IR/Module.h"

#include <atomic>
#include <thread>

using namespace mlir;

namespace llmc {

InFlightDiagnostic emitDefect(Operation* module) {
  return module->emitError("LLMC-E1007: cannot generate code: ");
}

FailureOr<std::string>
translateToBitcode(Operation* code,
                   llvm::function_ref<llvm::Error(llvm::Module&)> simplify) {
  llvm::LLVMContext llvmContext;
  std::unique_ptr<llvm::Module> module =
      translateModuleToLLVMIR(code, llvmContext, "kernels");
  if (!module)
    return emitDefect(code) << "no translation to LLVM";
  if (llvm::Error error = simplify(*module))
    return emitDefect(code) << llvm::toString(std::move(error));
  std::string bitcode;
  llvm::raw_string_ostream stream(bitcode);
  llvm::WriteBitcodeToFile(*module, stream);
  return bitcode;
}

void forEachOnTwoThreads(size_t count, llvm::function_ref<void(size_t)> work) {
  std::atomic<size_t> next = 0;
  auto run = [&] {
    for (size_t i = next++; i < count; i = next++)
      work(i);
  };
  std::thread second(run);
  run();
  second.join();
}

} // namespace llmc
