// SPDX-License-Identifier: Apache-2.0
// How launches of the kernels of the training step look: the part of
// CudaKernelRegistry that knows them.
#pragma once

#include "runtime/kernels/cuda/CudaKernelRegistry.h"

namespace llmrt {

/// Gives `shape`, which is that of the kernel's row of Kernels.def, the form
/// and the grid that the words ask for on a GPU with these features; leaves
/// other kernels alone.
/// Errors  KernelMissing for words that no form takes.
absl::Status shapeTrainingLaunch(const CudaKernelInfo& kernel,
                                 const uint64_t* words, CudaFeatures features,
                                 CudaLaunchShape& shape);

/// Gives `shape` the form of `attention` or `attention_rows` for many queries
/// with heads of D elements and keys and values in bf16. Both kernels have the
/// same forms on a GPU, so that they have the same bits.
void shapeBf16Attention(int64_t D, CudaFeatures features,
                        CudaLaunchShape& shape);

/// Returns the most scratch of launches with these words.
int64_t trainingScratchBytes(std::string_view kernel, const uint64_t* words);

/// The error for words that no form of a kernel takes.
absl::Status noCudaForm(std::string_view kernel, const std::string& why);

} // namespace llmrt
