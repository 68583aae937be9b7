// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/KernelTile.h"

namespace llmc {

std::optional<KernelTile> handTunedTile(llvm::StringRef name, bool isCuda) {
#define LLMRT_KERNEL(kernel, version, rowTile, colTile, words)                 \
  if (!isCuda && name == #kernel)                                              \
    return KernelTile{rowTile, colTile};
#define LLMRT_CUDA_KERNEL(kernel, rowTile, colTile, threads)                   \
  if (isCuda && name == #kernel)                                               \
    return KernelTile{rowTile, colTile};
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  return std::nullopt;
}

} // namespace llmc
