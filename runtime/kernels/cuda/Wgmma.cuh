// SPDX-License-Identifier: Apache-2.0
// What only sm_90a has for matrix products: wgmma, by which the 128 threads of
// a warpgroup multiply matrices that lie in shared memory while they do other
// things; and what goes with it, bulk copies among it. Each instruction is one
// short function; without nvcc they come from
// tests/support/cuda/WgmmaEmulation.h, which takes descriptors and swizzles
// apart bit by bit and holds the kernels to the rules below.
//
// Rules  1. Products begin behind beginProducts(), which orders what the thread
// did to their registers before; they are one group with endProducts(); until
// waitProducts() says that the group is done, nobody touches the sums, the
// registers of the first factor, or the shared memory that is read.
// 2. Tensor cores see shared memory through another proxy than threads: who
// writes it, by storeShared16() or copyAsync16(), calls publishShared() when
// the writes are done, and then meets the readers at a barrier.
// 3. Bulk copies write through that other proxy: what they bring needs no
// publishShared(), but a wait at the barrier in shared memory that counts its
// bytes. Where they write, threads are done with what lay there before (behind
// a barrier of the block), and have published what they wrote.
//
// Source  PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate
// Instructions" (fragments, shared memory layout, matrix descriptor), "Async
// proxy", "mbarrier", cp.async.bulk.
#pragma once

#include "runtime/kernels/cuda/Panels.cuh"

namespace llmrt::cuda {

inline constexpr int kWarpgroup = 128;

/// Returns the matrix descriptor of panels at `address` of shared memory. Bits
/// 0 - 13 are the address, 16 - 29 the leading, 32 - 45 the stride byte offset,
/// each without its last four bits; 49 - 51 the base offset, 0 as the pattern
/// begins at a multiple of 1024; 62 - 63 are 1, the swizzle of 128 bytes.
///
/// Stride: from eight rows to the next eight. Leading: from one panel to the
/// next, where the factor's rows are those of the sum's depth (k) and its 64
/// elements are outputs; where rows are outputs and elements are the depth, it
/// is not used, as a product takes 16 elements of one panel.
__device__ inline uint64_t panelDescriptor(uint32_t address,
                                           int panelBytes = 16) {
  const uint64_t start = (address & 0x3FFFF) >> 4;
  return start | static_cast<uint64_t>(panelBytes >> 4) << 16 |
         uint64_t{kPanelAlignment >> 4} << 32 | uint64_t{1} << 62;
}

/// Returns the descriptor of what lies `bytes` behind: 32 are the next 16
/// elements of a panel's rows, 2048 the next 16 rows.
__device__ inline uint64_t behind(uint64_t descriptor, int bytes) {
  return descriptor + (bytes >> 4);
}

#ifdef __CUDACC__

/// Returns 1 / x, with an error of 2^-23 of its size: no branch, no call.
__device__ inline float reciprocalApproximately(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// ---- shared memory ----

__device__ inline void storeShared16(void* to, uint4 value) {
  *static_cast<uint4*>(to) = value;
}

/// Shows tensor cores what this thread has written to shared memory.
__device__ inline void publishShared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- bulk copies ----

/// Makes a barrier of 8 bytes of shared memory, at a multiple of 8, at whose
/// rounds one thread arrives. To be published before others use it.
__device__ inline void initBarrier(uint64_t* barrier) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(sharedAddress(barrier))
      : "memory");
}

/// Begins to copy bytes of global to shared memory, both from multiples of 16
/// and a multiple of 16 of them; the barrier's round is over only when they are
/// there. Of the thread that will arrive.
__device__ inline void copyBulk(void* to, const void* from, int bytes,
                                uint64_t* barrier) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(
                   sharedAddress(barrier)),
               "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::"
               "bytes [%0], [%1], %2, [%3];" ::"r"(sharedAddress(to)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes),
               "r"(sharedAddress(barrier))
               : "memory");
}

/// Ends what the thread copies in the barrier's round.
__device__ inline void arrive(uint64_t* barrier) {
  asm volatile(
      "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(barrier))
      : "memory");
}

/// Waits until the barrier's last round of this parity is over, the first one's
/// being 0; what it brought is there for this thread and for tensor cores.
__device__ inline void waitBarrier(uint64_t* barrier, int parity) {
  int isOver;
  do
    asm volatile("{\n"
                 ".reg .pred over;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
                 "selp.b32 %0, 1, 0, over;\n"
                 "}"
                 : "=r"(isOver)
                 : "r"(sharedAddress(barrier)), "r"(parity)
                 : "memory");
  while (!isOver);
}

// ---- products ----

__device__ inline void beginProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void endProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int kPending>
__device__ inline void waitProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving what it does with sums across this place:
/// before products begin, and behind the wait for them.
template <int kParts>
__device__ inline void settle(float (&sums)[kParts][4]) {
#pragma unroll
  for (int j = 0; j < kParts; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      asm volatile("" : "+f"(sums[j][i])::"memory");
}

// Operands of 8 parts of sums, and their numbers.
#define LLMRT_SUMS_4(s, j)                                                     \
  "+f"(s[j][0]), "+f"(s[j][1]), "+f"(s[j][2]), "+f"(s[j][3])
#define LLMRT_SUMS_32(s, j)                                                    \
  LLMRT_SUMS_4(s, j), LLMRT_SUMS_4(s, j + 1), LLMRT_SUMS_4(s, j + 2),          \
      LLMRT_SUMS_4(s, j + 3), LLMRT_SUMS_4(s, j + 4), LLMRT_SUMS_4(s, j + 5),  \
      LLMRT_SUMS_4(s, j + 6), LLMRT_SUMS_4(s, j + 7)
#define LLMRT_NUMBERS_32                                                       \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "     \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "     \
  "%30, %31"
#define LLMRT_NUMBERS_64                                                       \
  LLMRT_NUMBERS_32                                                             \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "   \
  "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "     \
  "%60, %61, %62, %63"

/// sums = a b^T, or += if `adds`: a [64, 16] and b [64, 16], descriptors of
/// panels whose elements are the depth. Thread i of the warpgroup has the sums
/// of mma.m16n8k16's fragments, rows 16 (i / 32) + lane / 4 (+ 8), columns 8 j
/// + 2 (lane % 4) (+ 1): sums[j].
__device__ inline void multiplyShared(float (&sums)[8][4], uint64_t a,
                                      uint64_t b, bool adds) {
  asm volatile("{\n"
               ".reg .pred adds;\n"
               "setp.ne.b32 adds, %34, 0;\n"
               "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
               "{" LLMRT_NUMBERS_32 "}, %32, %33, adds, 1, 1, 0, 0;\n"
               "}"
               : LLMRT_SUMS_32(sums, 0)
               : "l"(a), "l"(b), "r"(static_cast<int>(adds))
               : "memory");
}

/// sums += a b: a [64, 16] as the fragment of mma.m16n8k16 of each warp's 16
/// rows, b [16, 64] the descriptor of panels whose elements are outputs.
__device__ inline void multiplyRegisters(float (&sums)[8][4],
                                         const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
               "{" LLMRT_NUMBERS_32 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
               : LLMRT_SUMS_32(sums, 0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
               : "memory");
}

/// The same for b [16, 128].
__device__ inline void multiplyRegisters(float (&sums)[16][4],
                                         const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
               "{" LLMRT_NUMBERS_64 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
               : LLMRT_SUMS_32(sums, 0), LLMRT_SUMS_32(sums, 8)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
               : "memory");
}

#undef LLMRT_SUMS_4
#undef LLMRT_SUMS_32
#undef LLMRT_NUMBERS_32
#undef LLMRT_NUMBERS_64

#endif // __CUDACC__

/// Returns the launch's dynamic shared memory from where panels may begin: up
/// to kPanelAlignment - 16 bytes behind its begin.
__device__ inline uint8_t* sharedPanels() {
  uint8_t* memory = sharedMemory();
  const uint32_t address = sharedAddress(memory);
  return memory +
         (kPanelAlignment - address % kPanelAlignment) % kPanelAlignment;
}

} // namespace llmrt::cuda
