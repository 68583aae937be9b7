// SPDX-License-Identifier: Apache-2.0
// Instructions of the GPU that C++ has no words for, each as one short
// function: loads that bypass the first-level cache, bf16 conversion,
// approximate exp2, matrix fragments and tensor core products (mma.sync, sm_80
// and later), launches that overlap (sm_90 and later). Compiled without nvcc,
// the functions come from tests/support/cuda/CudaEmulation.h, which follows the
// same pages of the PTX ISA.
#pragma once

#ifdef __CUDACC__

#include <cstdint>

namespace llmrt::cuda {

__device__ inline float floatOfBits(uint32_t bits) {
  return __uint_as_float(bits);
}

__device__ inline uint32_t bitsOfFloat(float x) { return __float_as_uint(x); }

/// Rounds two floats to bf16, nearest even: `low` in the lower half.
__device__ inline uint32_t packBf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// Returns byte `byte` of four as the float 2^23 + byte.
__device__ inline float liftedByte(uint32_t four, int byte) {
  return __uint_as_float(__byte_perm(four, 0x4B000000u, 0x7440 + byte));
}

/// Returns an IEEE half as a float.
__device__ inline float floatOfHalf(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}

/// Returns 2^x, with an error of 2^-22 of its size.
__device__ inline float exp2Approximately(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Products and sums that are rounded apart: where bits are those of the cpu.
__device__ inline float multiplied(float a, float b) { return __fmul_rn(a, b); }

__device__ inline float added(float a, float b) { return __fadd_rn(a, b); }

/// Loads 16 bytes of read-only memory that are used once.
__device__ inline uint4 loadOnce(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

/// Lets the next launch of the stream begin, if it was allowed to: all blocks
/// of this one must have come here or ended. PTX ISA, griddepcontrol.
__device__ inline void allowNextLaunch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// Waits until the launch before is done and what it wrote can be read.
__device__ inline void waitForPreviousLaunch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Loads four 8 x 8 matrices of 16-bit elements from shared memory; lane i
/// gives the address of row i % 8 of matrix i / 8. Lane i gets elements 2 (i %
/// 4) and the next of row i / 4 of each matrix. PTX ISA, ldmatrix.
__device__ inline void loadMatrices(const void* row, uint32_t (&r)[4]) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address)
      : "memory");
}

/// The same, each matrix transposed: lane i gets rows 2 (i % 4) and the next of
/// column i / 4.
__device__ inline void loadMatricesTransposed(const void* row,
                                              uint32_t (&r)[4]) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address)
      : "memory");
}

/// sum += a b for a [16, 16] and b [16, 8] in bf16, sum [16, 8] in f32. With g
/// = lane / 4 and t = 2 (lane % 4): a = rows g, g + 8, g, g + 8 at columns t,
/// t, t + 8, t + 8; b = rows t, t + 8 of column g; sum = row g columns t, t +
/// 1, then row g + 8. PTX ISA, mma.m16n8k16.
__device__ inline void multiplyMatrices(float (&sum)[4], const uint32_t (&a)[4],
                                        uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Returns the launch's dynamic shared memory, aligned to 16 bytes.
__device__ inline uint8_t* sharedMemory() {
  extern __shared__ uint4 llmrtShared[];
  return reinterpret_cast<uint8_t*>(llmrtShared);
}

} // namespace llmrt::cuda

#endif
