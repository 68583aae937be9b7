// SPDX-License-Identifier: Apache-2.0
// The tiles of Kernels.def's kernels on each target.
#pragma once

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>

namespace llmc {

/// Step of a kernel's grid in rows and columns of its output; 0: all.
struct KernelTile {
  int64_t rows, columns;
};

/// Returns the tile of a hand-tuned kernel, or nothing where the target has no
/// form of it.
std::optional<KernelTile> handTunedTile(llvm::StringRef kernel, bool isCuda);

} // namespace llmc
