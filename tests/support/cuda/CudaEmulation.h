// SPDX-License-Identifier: Apache-2.0
// Runs CUDA kernels on the host, so that every build tests their values without
// a GPU. The .cu sources are compiled as plain C++ with this header included
// first; the threads of a block are fibers of one thread, blocks run one after
// another. Knows only the words of CUDA that the kernels use: indices, shared
// memory, barriers of block and warp, shuffles, integer atomics, and what
// Intrinsics.cuh wraps. Threads of the host may each run a grid, as GPUs do.
// Barriers are strict: threads that wait for a thread
// that has returned, or that waits elsewhere, end the run with an error. Not
// for speed, and not for finding data races between barriers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __forceinline__ inline
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

struct alignas(8) uint2 {
  uint32_t x, y;
};

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

struct alignas(8) float2 {
  float x, y;
};

struct alignas(16) float4 {
  float x, y, z, w;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}

inline float2 make_float2(float x, float y) { return {x, y}; }

inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}

/// Of the fiber that runs.
extern constinit thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace llmrt::emulation {

inline constexpr int kWarp = 32;

/// Waits until every thread of the block, or of the warp, is at a barrier.
void blockBarrier();
void warpBarrier();

/// The same for the 128 threads of a warpgroup.
void warpgroupBarrier();

/// Waits until another thread changes `round`.
void waitForNext(const uint64_t& round);

/// Returns how many barriers of the block are over.
uint64_t blockBarriers();

/// Makes an error of the grid that runs; the first one is kept.
void fail(const std::string& what);

/// Every lane of the warp gives `size` bytes and gets the array of all lanes'
/// bytes, lane after lane, valid until the lane's next exchange but one.
const uint8_t* exchange(const void* mine, size_t size);

uint8_t* sharedMemory();
int64_t sharedSize();

template <typename T>
T shuffle(T value, int lane) {
  const uint8_t* all = exchange(&value, sizeof(T));
  T result;
  std::memcpy(&result, all + lane * sizeof(T), sizeof(T));
  return result;
}

struct Launch {
  unsigned gridX = 1;
  unsigned gridY = 1;
  unsigned threads = 1;
  int64_t sharedBytes = 0;
};

/// Runs `kernel` once for each thread of each block; dynamic shared memory is
/// poisoned before each block. Returns an empty text, or what went wrong:
/// threads that wait for each other, or writes behind the shared memory.
std::string runGrid(const Launch& launch, const std::function<void()>& kernel);

} // namespace llmrt::emulation

// ---- the words of CUDA ----

inline void __syncthreads() { llmrt::emulation::blockBarrier(); }

inline void __syncwarp() { llmrt::emulation::warpBarrier(); }

inline void __threadfence() {}

// Masks name all lanes: the kernels use no other.
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return llmrt::emulation::shuffle(value, lane % llmrt::emulation::kWarp);
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return llmrt::emulation::shuffle(
      value, (threadIdx.x % llmrt::emulation::kWarp) ^ mask);
}

template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned delta) {
  const int lane = threadIdx.x % llmrt::emulation::kWarp;
  const int from = lane - static_cast<int>(delta);
  return llmrt::emulation::shuffle(value, from < 0 ? lane : from);
}

/// The lanes whose predicate holds, as bits.
inline unsigned __ballot_sync(unsigned, bool predicate) {
  const uint8_t* all = llmrt::emulation::exchange(&predicate, sizeof(bool));
  unsigned mask = 0;
  for (int lane = 0; lane < llmrt::emulation::kWarp; ++lane)
    mask |= static_cast<unsigned>(all[lane] != 0) << lane;
  return mask;
}

/// The number of the lowest bit that is set, from 1; 0 if none is.
inline int __ffs(int bits) { return __builtin_ffs(bits); }

/// Counts up to `limit` and then begins at 0 again; returns the old value.
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  const unsigned old = *address;
  *address = old >= limit ? 0 : old + 1;
  return old;
}

// ---- Intrinsics.cuh ----

namespace llmrt::cuda {

inline float floatOfBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

inline uint32_t bitsOfFloat(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

uint32_t packBf16(float low, float high);
uint32_t subtractBf16(uint32_t a, uint32_t b);

inline uint32_t joinBits(uint32_t bits, uint32_t mask, uint32_t others) {
  return (bits & mask) | others;
}

inline float liftedByte(uint32_t four, int byte) {
  return 8388608.0f + static_cast<float>(four >> 8 * byte & 0xFF);
}

inline float floatOfHalf(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float size = exponent == 0 ? std::ldexp(mantissa, -24)
                                   : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 ? -size : size;
}

inline float exp2Approximately(float x) { return std::exp2(x); }

inline float multiplied(float a, float b) { return a * b; }

inline float added(float a, float b) { return a + b; }

inline uint4 loadOnce(const void* p) { return *static_cast<const uint4*>(p); }

// Reads, so that a sanitizer sees an address that is none.
inline void prefetch(const void* p) {
  static_cast<void>(*static_cast<const volatile uint8_t*>(p));
}

// Launches never overlap here.
inline void allowNextLaunch() {}

inline void waitForPreviousLaunch() {}

// Blocks run one after the other.
inline uint32_t countArrival(uint32_t* counter, uint32_t limit) {
  return atomicInc(counter, limit);
}

void loadMatrices(const void* row, uint32_t (&r)[4]);
void loadMatricesTransposed(const void* row, uint32_t (&r)[4]);
void multiplyMatrices(float (&sum)[4], const uint32_t (&a)[4], uint32_t b0,
                      uint32_t b1);

inline uint8_t* sharedMemory() { return emulation::sharedMemory(); }

} // namespace llmrt::cuda

#include "tests/support/cuda/WgmmaEmulation.h"
