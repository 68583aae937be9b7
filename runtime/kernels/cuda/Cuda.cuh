// SPDX-License-Identifier: Apache-2.0
// What the CUDA kernels share: the ABI's entry and tile, 16-byte accesses,
// bf16, sums over warps and blocks. Everything that is not plain C++ and not
// one of the few CUDA words that tests/support/cuda/CudaEmulation.h knows is an
// intrinsic of Intrinsics.cuh, so that the same sources also run on the host in
// tests.
#pragma once

#include "runtime/kernels/KernelArgs.h"
#include "runtime/kernels/cuda/Constants.h"
#include "runtime/kernels/cuda/Intrinsics.cuh"

/// A kernel's entry. One thread block computes one tile of the grid; blocks of
/// one tile are numbered by blockIdx.y (gridDim.y is 1 but for kernels whose
/// launch shape says otherwise, see CudaKernelRegistry.h). args are the words
/// of Kernels.def in device memory, whose word 0 is the number of valid rows;
/// scratch belongs to the launch. What follows the name: threads of a block,
/// and optionally how many blocks should fit on a multiprocessor.
#define LLMRT_CUDA_ENTRY(name, ...)                                            \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                    \
      name(const uint64_t* args, int64_t rows, int64_t cols, int64_t rowTile,  \
           int64_t colTile, uint8_t* scratch)

namespace llmrt::cuda {

inline constexpr int kWarpLanes = 32;

__device__ inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

__device__ inline int64_t greatest(int64_t a, int64_t b) {
  return a > b ? a : b;
}

__device__ inline int64_t roundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Returns the argument block as its struct. Members are read from memory where
/// they are used: an array among them never becomes local memory.
template <typename Args>
__device__ inline const Args& argsOf(const uint64_t* words) {
  return *reinterpret_cast<const Args*>(words);
}

/// Returns the tile of this block, in rows and columns of the grid.
__device__ inline LlmrtTile blockTile(int64_t rows, int64_t cols,
                                      int64_t rowTile, int64_t colTile) {
  const int64_t tileRows = rowTile > 0 ? rowTile : rows;
  const int64_t tileCols = colTile > 0 ? colTile : cols;
  const unsigned colTiles =
      static_cast<unsigned>((cols + tileCols - 1) / tileCols);
  const int64_t row = blockIdx.x / colTiles * tileRows;
  const int64_t col = blockIdx.x % colTiles * tileCols;
  return {row, least(row + tileRows, rows), col, least(col + tileCols, cols)};
}

__device__ inline bool isBf16(int64_t dtype) {
  return dtype == static_cast<int64_t>(DType::BF16);
}

__device__ inline bool isAligned16(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

// ---- bf16 ----

struct BF16 {
  uint16_t bits;
};

__device__ inline float widen(float x) { return x; }

__device__ inline float widen(BF16 x) {
  return floatOfBits(static_cast<uint32_t>(x.bits) << 16);
}

__device__ inline void narrowTo(float x, float* out) { *out = x; }

__device__ inline void narrowTo(float x, BF16* out) {
  out->bits = static_cast<uint16_t>(packBf16(x, 0.0f));
}

/// Elements of one 16-byte access.
template <typename T>
inline constexpr int kVector = 16 / sizeof(T);

__device__ inline void widenVector(uint4 raw, const float*, float* out) {
  out[0] = floatOfBits(raw.x);
  out[1] = floatOfBits(raw.y);
  out[2] = floatOfBits(raw.z);
  out[3] = floatOfBits(raw.w);
}

__device__ inline void widenVector(uint4 raw, const BF16*, float* out) {
  out[0] = floatOfBits(raw.x << 16);
  out[1] = floatOfBits(raw.x & 0xFFFF0000u);
  out[2] = floatOfBits(raw.y << 16);
  out[3] = floatOfBits(raw.y & 0xFFFF0000u);
  out[4] = floatOfBits(raw.z << 16);
  out[5] = floatOfBits(raw.z & 0xFFFF0000u);
  out[6] = floatOfBits(raw.w << 16);
  out[7] = floatOfBits(raw.w & 0xFFFF0000u);
}

/// Widens elements [first, first + 4) of a 16-byte access; `first` is a
/// constant.
__device__ inline void widenFour(uint4 raw, const float* type, int,
                                 float* out) {
  widenVector(raw, type, out);
}

__device__ inline void widenFour(uint4 raw, const BF16*, int first,
                                 float* out) {
  const uint32_t low = first == 0 ? raw.x : raw.z;
  const uint32_t high = first == 0 ? raw.y : raw.w;
  out[0] = floatOfBits(low << 16);
  out[1] = floatOfBits(low & 0xFFFF0000u);
  out[2] = floatOfBits(high << 16);
  out[3] = floatOfBits(high & 0xFFFF0000u);
}

__device__ inline uint4 load16(const void* p) {
  return *static_cast<const uint4*>(p);
}

// ---- sums, the same at every run ----

/// Adds over groups of `lanes` neighbouring lanes (a power of two); all lanes
/// get the sum.
__device__ inline float sumOfLanes(float x, int lanes = kWarpLanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

__device__ inline double sumOfLanes(double x) {
  for (int offset = kWarpLanes / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

/// Returns the launch's counters of blocks that are done: zero when it begins,
/// and left zero.
__device__ inline uint32_t* countersOf(uint8_t* scratch) {
  return reinterpret_cast<uint32_t*>(scratch - kCudaCounterBytes);
}

/// Returns true in the last of `blocks` blocks that come here with counter
/// number `counter` of the launch, which then sees what all of them have
/// written. All threads of a block come.
///
/// Why one thread's atomic suffices: what a block's threads wrote happens
/// before its barrier, the barrier before thread 0's release, that before the
/// acquire of the last block's thread 0, and that before the second barrier
/// there: causality in the PTX memory model goes through barriers of a block as
/// well as through atomics, whatever the threads. No thread of the last block
/// has read the others' results before, so its loads are not older either.
__device__ inline bool isLastBlock(uint8_t* scratch, int64_t counter,
                                   int64_t blocks) {
  __shared__ uint32_t before;
  const uint32_t last = static_cast<uint32_t>(blocks - 1);
  __syncthreads();
  if (threadIdx.x == 0)
    before = countArrival(countersOf(scratch) + counter, last);
  __syncthreads();
  return before == last;
}

/// Returns e^x to 2^-21 of its size; 0 far below.
__device__ inline float expOf(float x) {
  return exp2Approximately(x * 1.4426950408889634f);
}

} // namespace llmrt::cuda
