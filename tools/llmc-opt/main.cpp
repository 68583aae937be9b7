// SPDX-License-Identifier: Apache-2.0
// llmc-opt: parses a module, runs the passes named on the command line, prints
// it. For tests and for people who study a pass; llmc is the compiler. All
// flags are MLIR's.
#include "compiler/codegen/CudaCodegen.h"
#include "compiler/passes/Passes.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char** argv) {
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, llmc::llm::LlmDialect,
                  llmc::dist::DistDialect, llmc::plan::PlanDialect>();
  llmc::registerCudaCodegenDialects(registry);
  llmc::registerLlmcPasses();
  mlir::registerTransformsPasses();
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "llmc-opt: one pass at a time over llm, dist and plan\n",
      registry));
}
