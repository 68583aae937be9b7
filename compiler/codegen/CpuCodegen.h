// SPDX-License-Identifier: Apache-2.0
// Machine code for generated kernels: one ELF shared object for each CPU level,
// to be stored in a plan. It generates no hand-tuned kernel and loads nothing.
#pragma once

#include "compiler/codegen/CodeObject.h"
#include "dialects/plan/Plan.h"

#include "mlir/IR/BuiltinOps.h"

namespace llmc {

/// Adds the dialects that generateCpuCode creates ops of, and their
/// translations. Needed beforehand only by a caller inside a pass, where no
/// dialect can be loaded.
void registerCpuCodegenDialects(mlir::DialectRegistry& registry);

/// Generates one shared object for each level (values of llmrt::CpuLevel). It
/// exports a function of the kernel ABI under the symbol of each kernel and
/// needs no symbol of others; it has no state, so that any thread may call any
/// function. All levels give the same bits, and the same kernels give the same
/// bytes. Words   rows (not read: the tile says which), the address of each
/// block argument, the
///         address of each result. Rows of a tensor are dense.
/// Alias   a result may lie exactly on an argument of the same type.
/// Tile    `elementwise` kernels: columns in multiples of 64, or up to the
/// row's end. Errors  a body or type that cannot be generated, a temporary file
/// that cannot be
///         written: a diagnostic.
mlir::FailureOr<std::vector<CodeObject>>
generateCpuCode(mlir::ModuleOp module, llvm::ArrayRef<plan::KernelOp> kernels,
                llvm::ArrayRef<int> levels);

/// Takes the last steps alone: `code` holds functions made by
/// lowerLinalgToVector, and is converted in place.
mlir::FailureOr<std::vector<CodeObject>>
compileVectorCode(mlir::ModuleOp code, llvm::ArrayRef<int> levels);

} // namespace llmc
