// SPDX-License-Identifier: Apache-2.0
// The LLVM passes that generated code needs on every target.
#pragma once

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace llmc {

/// Simplifies every function; changes no order of float operations.
void simplifyVectorCode(llvm::Module& module, llvm::TargetMachine& machine);

} // namespace llmc
