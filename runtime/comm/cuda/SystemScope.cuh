// SPDX-License-Identifier: Apache-2.0
// Words that GPUs and the host tell each other: accesses at system scope.
// Compiled without nvcc, they are those of the host's threads.
#pragma once

#include <cstdint>

#ifdef __CUDACC__

namespace llmrt::cuda {

/// What this thread, and its block before a barrier, wrote is seen by whoever
/// acquires the word.
__device__ inline void storeReleaseSystem(uint64_t* to, uint64_t value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;"
               :
               : "l"(to), "l"(value)
               : "memory");
}

__device__ inline uint64_t loadAcquireSystem(const uint64_t* from) {
  uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];"
               : "=l"(value)
               : "l"(from)
               : "memory");
  return value;
}

__device__ inline uint32_t loadSystem(const uint32_t* from) {
  uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];"
               : "=r"(value)
               : "l"(from)
               : "memory");
  return value;
}

__device__ inline void pauseSpin() {}

/// Looks at a flag between two looks at a word of the host, which is across the
/// bus.
inline constexpr int kLooksForHost = 1024;

} // namespace llmrt::cuda

#else

#include <sched.h>

namespace llmrt::cuda {

inline void storeReleaseSystem(uint64_t* to, uint64_t value) {
  __atomic_store_n(to, value, __ATOMIC_RELEASE);
}

inline uint64_t loadAcquireSystem(const uint64_t* from) {
  return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

inline uint32_t loadSystem(const uint32_t* from) {
  return __atomic_load_n(from, __ATOMIC_RELAXED);
}

inline void pauseSpin() { sched_yield(); }

inline constexpr int kLooksForHost = 1;

} // namespace llmrt::cuda

#endif
