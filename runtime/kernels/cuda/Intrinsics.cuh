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

/// Subtracts two bf16 numbers from two, nearest even: b (-1) + a, which sm_80
/// has.
__device__ inline uint32_t subtractBf16(uint32_t a, uint32_t b) {
  uint32_t difference;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;"
      : "=r"(difference)
      : "r"(b), "r"(0xBF80BF80u), "r"(a));
  return difference;
}

/// Returns (bits & mask) | others: one instruction, also where both are
/// constants.
__device__ inline uint32_t joinBits(uint32_t bits, uint32_t mask,
                                    uint32_t others) {
  uint32_t joined;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;"
      : "=r"(joined)
      : "r"(bits), "r"(mask), "r"(others));
  return joined;
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

/// Loads 16 bytes that are used once. Not as read-only memory (.nc): nothing
/// orders such loads, and ptxas moves them behind griddepcontrol.wait, which
/// weights are to be asked for before.
__device__ inline uint4 loadOnce(const void* p) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

/// Asks for the line of 128 bytes at p to be in the second-level cache soon.
__device__ inline void prefetch(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(p)));
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

/// Counts up to `limit` and then begins at 0 again; returns the old value. At
/// the GPU's scope what the thread has written or seen before becomes visible
/// to those that count later (release), and what those before have written to
/// it (acquire). PTX ISA, atom.
__device__ inline uint32_t countArrival(uint32_t* counter, uint32_t limit) {
  uint32_t old;
  asm volatile("atom.acq_rel.gpu.inc.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(counter), "r"(limit)
               : "memory");
  return old;
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

// ---- copies into shared memory; PTX ISA, cp.async ----

__device__ inline uint32_t sharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Begins to copy 16 bytes of global memory to shared memory past the
/// registers, or to put zeros there.
__device__ inline void copyAsync16(void* to, const void* from, bool isThere) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(to)),
      "l"(from), "r"(isThere ? 16 : 0)
      : "memory");
}

/// Makes a group of the copies that the thread has begun.
__device__ inline void endCopies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until all but the last kPending groups of the thread are there.
template <int kPending>
__device__ inline void waitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Returns the launch's dynamic shared memory, aligned to 16 bytes.
__device__ inline uint8_t* sharedMemory() {
  extern __shared__ uint4 llmrtShared[];
  return reinterpret_cast<uint8_t*>(llmrtShared);
}

} // namespace llmrt::cuda

#endif
