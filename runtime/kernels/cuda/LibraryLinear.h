// SPDX-License-Identifier: Apache-2.0
// `linear` of many rows in bf16 by a library of matrix products: a kernel
// rounds x to bf16 into the scratch, the library multiplies it, and what is
// left of the scratch is the library's. Where there is no library, or the
// addresses do not suit it, the forms of the kernel run; the scratch is planned
// for both. Needs no CUDA.
#pragma once

#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/cuda/CudaKernelRegistry.h"

namespace llmrt {

/// Device memory that the library gets for one product: as much as its makers
/// advise on large GPUs.
inline constexpr int64_t kCudaProductWorkspaceBytes = int64_t{32} << 20;

/// Bytes of x rounded to bf16, which lie at the begin of the scratch; a
/// multiple of 256.
int64_t roundedRowsBytes(const LinearArgs& a, int64_t rows);

/// Scratch of launches with at most a.rows rows; 0 if no library takes them.
int64_t libraryLinearScratchBytes(const LinearArgs& a);

/// True if a library may multiply `rows` rows: the type, the number of rows and
/// the alignment of every address and distance suit it.
bool suitsLibrary(const LinearArgs& a, int64_t rows);

/// The launch that rounds x: form `linear_round`.
CudaLaunchShape roundRowsShape(const LinearArgs& a, int64_t rows);

} // namespace llmrt
