// SPDX-License-Identifier: Apache-2.0
// Wgmma.cuh and the copies of Intrinsics.cuh on the host. Products take their
// factors out of shared memory as the bits of their descriptors say. What a GPU
// leaves undefined is an error of the grid:
// - products without beginProducts() behind the last wait; sums, or registers
// of
//   the first factor, that change between products and the wait for them; sums
//   are NaN until then, and threads that leave before it
// - shared memory that products read and nobody wrote by storeShared16() or
//   copyAsync16(), that its writer has not published, or that was published
//   behind the last barrier of the block; that is written while they read it
// - copies that are not there yet: NaN
// - bulk copies to where products read, or where something lies that is not
//   published behind a barrier of the block, or that still comes; barriers that
//   are used before they are published, or where another thread arrives than
//   the one that copies; copies that are under way when their block ends
// - threads of a warpgroup that do not make the same product; descriptors with
//   bits that must be zero, or that point behind shared memory.
// What a thread does to registers between beginProducts() and the products
// cannot be seen here.
#pragma once

#include "tests/support/cuda/CudaEmulation.h"

namespace llmrt::emulation {

/// Where dynamic shared memory begins in its own address space: aligned as
/// little as CUDA promises.
inline constexpr uint32_t kSharedAddress = 1040;

/// Of a block; called by runGrid().
void beginWgmmaBlock();
void endWgmmaBlock();

} // namespace llmrt::emulation

namespace llmrt::cuda {

uint32_t sharedAddress(const void* p);

inline float reciprocalApproximately(float x) { return 1.0f / x; }

void copyAsync16(void* to, const void* from, bool isThere);
void endCopies();
void waitForCopies(int pending);
void initBarrier(uint64_t* barrier);
void copyBulk(void* to, const void* from, int bytes, uint64_t* barrier);
void arrive(uint64_t* barrier);
void waitBarrier(uint64_t* barrier, int parity);
void storeShared16(void* to, uint4 value);
void publishShared();

template <int kPending>
void waitCopies() {
  waitForCopies(kPending);
}

void beginProducts();
void endProducts();
void waitForProducts(int pending);

template <int kPending>
void waitProducts() {
  waitForProducts(kPending);
}

void checkSettled(const float* sums);

template <int kParts>
void settle(float (&sums)[kParts][4]) {
  checkSettled(&sums[0][0]);
}

void multiplyShared(float (&sums)[8][4], uint64_t a, uint64_t b, bool adds);
void multiplyRegisters(float (&sums)[8][4], const uint32_t (&a)[4], uint64_t b);
void multiplyRegisters(float (&sums)[16][4], const uint32_t (&a)[4],
                       uint64_t b);

} // namespace llmrt::cuda
