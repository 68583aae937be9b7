// SPDX-License-Identifier: Apache-2.0
// What code generation for every target does alike: LLVM IR once, then one
// image for each level or architecture, on two threads.
#pragma once

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"

#include <string>

namespace llvm {
class Module;
}

namespace llmc {

/// What no input can cause: a defect of this compiler or of its surroundings.
mlir::InFlightDiagnostic emitDefect(mlir::Operation* module);

/// Returns LLVM IR of a module in LLVM's dialects, after `simplify`, as
/// bitcode. Dialect translations are registered by the caller.
/// Errors  emitted at the module.
llvm::FailureOr<std::string>
translateToBitcode(mlir::Operation* module,
                   llvm::function_ref<llvm::Error(llvm::Module&)> simplify);

/// Calls `work` once with each number below `count`, from two threads.
void forEachOnTwoThreads(size_t count, llvm::function_ref<void(size_t)> work);

} // namespace llmc
