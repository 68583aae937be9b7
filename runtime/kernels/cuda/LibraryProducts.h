// SPDX-License-Identifier: Apache-2.0
// Products of many rows in bf16 by a library of matrix products: a kernel
// rounds what is f32 to bf16 into the scratch (RoundedFactors.h), the library
// multiplies it, and what is left of the scratch is the library's. Where there
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

/// Returns the launch that rounds the factors, which fill its scratch, or
/// nothing if no library may multiply: the kernel, the type, the number of rows
/// and the alignment of every address and distance must suit it.
std::optional<CudaLaunchShape>
libraryRounding(std::string_view kernel, const uint64_t* words, int64_t rows);

} // namespace llmrt
