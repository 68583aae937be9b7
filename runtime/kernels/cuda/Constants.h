// SPDX-License-Identifier: Apache-2.0
// Numbers that CUDA kernels and the host code that launches them agree on.
#pragma once

#include <cstdint>

namespace llmrt {

/// Bytes before the scratch of a launch that are zero when it begins and that a
/// kernel leaves zero: counters (uint32) of blocks that are done.
inline constexpr int64_t kCudaCounterBytes = 16384;

/// The widest head of `attention`.
inline constexpr int64_t kCudaMaxHead = 256;

/// Elements of flat f32 memory that one block of add_to, adamw and cast_weight
/// takes.
inline constexpr int64_t kCudaFlatElements = 4096;

/// Vocabulary rows and columns that one block of embedding_gradient adds to.
inline constexpr int64_t kCudaEmbeddingRows = 64;
inline constexpr int64_t kCudaEmbeddingCols = 1024;

/// Dynamic shared memory of a block for each row of weights in blocks that it
/// multiplies by tensor cores: three stages of 64 bytes for each of 8 warps,
/// and where the row lies.
inline constexpr int64_t kCudaBlockRowBytes = 3 * 64 * 8 + 16;

/// The most threads that add up sum_terms and global_norm.
inline constexpr int64_t kCudaTreeThreads = 256;

} // namespace llmrt
