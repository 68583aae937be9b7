// SPDX-License-Identifier: Apache-2.0
// The one sum over ranks. Every back-end on host memory moves bytes in its own
// way and adds here, so that results are bit-identical on all of them.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include "absl/types/span.h"

namespace llmrt {

/// Adds in rank order: out[i] = (blocks[0][i] + blocks[1][i]) + blocks[2][i]
/// ... In f32, F32 or BF16 blocks; for bf16 the sum is rounded once, to nearest
/// even. The result of an element depends on nothing but its summands.
/// Alias   out may be one of the blocks.
void addInRankOrder(void* out, absl::Span<const void* const> blocks,
                    int64_t numElements, DType dtype);

} // namespace llmrt
