// SPDX-License-Identifier: Apache-2.0
// LLVM IR to PTX, and PTX to a cubin by the toolkit's assembler. No MLIR here.
#pragma once

#include "compiler/target/Target.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llvm {
class Module;
}

namespace llmc {

/// Sets triple and data layout and simplifies: what all architectures share.
llvm::Error optimizeForCuda(llvm::Module& module);

/// Compiles bitcode made by optimizeForCuda to PTX. Contracts and reassociates
/// no float operation, and lets ptxas contract none. May run on several threads
/// at once.
llvm::Expected<std::string> emitPtx(llvm::StringRef bitcode,
                                    const CudaArchitecture& architecture);

/// Returns the path of ptxas: in PATH, or in bin below CUDA_HOME, which is
/// /usr/local/cuda if unset.
std::optional<std::string> findPtxas();

/// Assembles PTX to a cubin. The same PTX gives the same bytes. May run on
/// several threads at once.
/// Errors  what ptxas said; a temporary file that cannot be written.
llvm::Expected<std::vector<uint8_t>>
assemblePtx(llvm::StringRef ptxas, llvm::StringRef ptx,
            const CudaArchitecture& architecture);

} // namespace llmc
