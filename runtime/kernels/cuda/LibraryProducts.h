// SPDX-License-Identifier: Apache-2.0
// Products of many rows in bf16 by a library of matrix products: a kernel
// rounds factors that are f32 to bf16 into the scratch (RoundedFactors.h), the
// library multiplies them, and what is left of the scratch is the library's.
// Factors that were rounded before are multiplied where they lie. Where there
// is no library, or the addresses do not suit it, the forms of the kernel run;
// the scratch is planned for both. Needs no CUDA.
#pragma once

#include "runtime/kernels/TrainingKernelArgs.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include <optional>

namespace llmrt {

/// Device memory that the library gets for one product: as much as its makers
/// advise on large GPUs.
inline constexpr int64_t kCudaProductWorkspaceBytes = int64_t{32} << 20;

/// Value of the word `activation` for gelu by tanh.
inline constexpr int64_t kGeluByTanh = 3;

/// Scratch of launches with at most words[0] rows, of any kernel; 0 if no
/// library takes them.
int64_t libraryScratchBytes(std::string_view kernel, const uint64_t* words);

/// What comes before a library's product.
struct LibraryFactors {
  std::optional<CudaLaunchShape> rounding; // none: factors are bf16
  /// Before the workspace: rounded factors; or, where a product adds to its
  /// result, as much as the one has that is zeros while it is measured.
  int64_t scratchBytes;
};

/// Returns nothing if no library may multiply: the kernel, the type, the number
/// of rows and the alignment of every address and distance must suit it.
std::optional<LibraryFactors>
libraryFactors(std::string_view kernel, const uint64_t* words, int64_t rows);

} // namespace llmrt
