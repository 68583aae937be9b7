// SPDX-License-Identifier: Apache-2.0
// Launches a hand-tuned CUDA kernel on the host, in the form and with the grid,
// shared memory and scratch that the registry gives for its words.
#pragma once

#include "runtime/kernels/cuda/CudaKernelRegistry.h"

#include <string>

namespace llmrt::emulation {

/// Runs every block. The scratch is poisoned and guarded, its counters are
/// zero. Returns an empty text, or what went wrong: no such form, a write
/// behind shared memory or scratch, counters that are not left zero, threads
/// that wait for ever.
std::string runCudaKernel(std::string_view name, const uint64_t* words,
                          int64_t rows, int64_t cols,
                          CudaFeatures features = {});

/// Runs every block of one form, with scratch of the caller's and no check of
/// it. Returns as runCudaKernel().
std::string runCudaForm(const CudaLaunchShape& shape, const uint64_t* words,
                        uint8_t* scratch);

} // namespace llmrt::emulation
