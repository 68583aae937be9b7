// SPDX-License-Identifier: Apache-2.0
// The hand-tuned CUDA kernels as machine code, compiled at build time for every
// architecture of CMakeLists.txt, with PTX for later ones. Only in builds with
// the CUDA toolkit.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include <cstdint>

namespace llmrt {

/// One source file: a fatbin that the driver loads as a whole.
struct CudaKernelImage {
  const char* file; // without its ending
  absl::Span<const uint8_t> image;
};

absl::Span<const CudaKernelImage> cudaKernelImages();

} // namespace llmrt
