// SPDX-License-Identifier: Apache-2.0
// How rows of bf16 lie where tensor cores of sm_90a read them: in shared
// memory, and, so that one bulk copy brings them there, in pages of the cache
// (CachePages.cuh) and in the scratch of training (AttentionRound.cuh).
#pragma once

#include "runtime/kernels/cuda/Cuda.cuh"

namespace llmrt::cuda {

/// A panel is rows of 64 bf16 elements (128 bytes), one behind the other; wider
/// rows are several panels, each in shared memory from a multiple of 1024
/// bytes. A row's 16-byte pieces are permuted by the number of the row: the
/// pattern that the tensor cores call the swizzle of 128 bytes (address bits
/// 4 - 6 xor bits 7 - 9). So eight rows of one piece lie in different banks.
inline constexpr int kPanelElements = 64;
inline constexpr int kPanelRowBytes = 128;
inline constexpr int kPanelAlignment = 1024; // eight rows: one swizzle atom
inline constexpr int kPieceElements = 8;

/// Returns where piece `piece` (8 elements of row `row`) of a matrix begins
/// whose panels have `rows` rows, in bytes.
__device__ inline int pieceOffset(int rows, int row, int piece) {
  return piece / 8 * rows * kPanelRowBytes + row * kPanelRowBytes +
         (piece % 8 ^ row % 8) * 16;
}

} // namespace llmrt::cuda
