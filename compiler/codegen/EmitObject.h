// SPDX-License-Identifier: Apache-2.0
// LLVM IR to a shared object for one CPU level. No MLIR here.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <vector>

namespace llvm {
class Module;
}

namespace llmc {

/// Sets triple and data layout and simplifies: what all levels share.
llvm::Error optimizeForCpu(llvm::Module& module);

/// Compiles bitcode made by optimizeForCpu to a relocatable ELF object.
/// Contracts and reassociates no float operation. May run on several threads at
/// once.
llvm::Expected<llvm::SmallVector<char, 0>> emitObject(llvm::StringRef bitcode,
                                                      int level);

/// Links one object into a shared object that has no undefined symbol. Not on
/// several threads at once.
llvm::Expected<std::vector<uint8_t>>
linkSharedObject(llvm::ArrayRef<char> object);

} // namespace llmc
