// SPDX-License-Identifier: Apache-2.0
// Text to a module of plan.kernels, for tests of code generation.
#pragma once

#include "compiler/codegen/CudaCodegen.h"
#include "dialects/dist/Dist.h"
#include "dialects/llm/Llm.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"

namespace llmc {

using namespace mlir; // every name below is MLIR's

/// A file that llmc wrote (--compile-to=kernels).
struct DumpedKernels {
  std::string path;
};

/// A context with a module and the messages about it.
struct ParsedKernels {
  MLIRContext context{MLIRContext::Threading::DISABLED};
  std::string diagnostics;
  OwningOpRef<ModuleOp> module;

  explicit ParsedKernels(const DumpedKernels& dump) {
    loadDialects();
    module = parseSourceFile<ModuleOp>(dump.path, &context);
  }

  explicit ParsedKernels(std::string text) {
    loadDialects();
    for (unsigned i = 0; i <= llm::getMaxEnumValForActivationKind(); ++i)
      writeActivation(*llm::symbolizeActivationKind(i), text);
    module = parseSourceString<ModuleOp>(text, &context);
  }

  void loadDialects() {
    DialectRegistry registry;
    registry.insert<dist::DistDialect, llm::LlmDialect, plan::PlanDialect>();
    registerCudaCodegenDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    context.getDiagEngine().registerHandler([this](Diagnostic& d) {
      diagnostics += d.str() + "\n";
      return success();
    });
  }

  /// Replaces `<silu>` by the attribute, as the dialect prints it.
  void writeActivation(llm::ActivationKind kind, std::string& text) {
    std::string from = ("<" + llm::stringifyActivationKind(kind) + ">").str();
    std::string to;
    llvm::raw_string_ostream stream(to);
    stream << llm::ActivationKindAttr::get(&context, kind);
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos;
         at += to.size())
      text.replace(at, from.size(), to);
  }

  /// Those to generate code for.
  std::vector<plan::KernelOp> kernels() {
    std::vector<plan::KernelOp> result;
    if (module)
      for (auto kernel : module->getOps<plan::KernelOp>())
        if (kernel.isGenerated())
          result.push_back(kernel);
    return result;
  }
};

} // namespace llmc
