// SPDX-License-Identifier: Apache-2.0
// How blocks of rows come to shared memory as panels, in rounds: a round's
// copies are begun while the threads work on what came before, and waited for
// together. One thread begins a bulk copy for all, of rows that already lie as
// panels; other rows are copied 16 bytes at a time by all threads.
#pragma once

#include "runtime/kernels/cuda/Wgmma.cuh"

namespace llmrt::cuda {

/// Rounds of bulk copies. At most two are under way: the barrier of a round is
/// free again when the one before the last has been waited for. All threads
/// call everything but copy().
class BulkRounds {
public:
  static constexpr int kBarrierBytes = 2 * sizeof(uint64_t);

  /// Makes the barriers, for which shared memory has room. Others use them
  /// behind the next barrier of the block.
  __device__ static void init(uint64_t* barriers) {
    if (threadIdx.x != 0)
      return;
    initBarrier(barriers);
    initBarrier(barriers + 1);
    publishShared();
  }

  __device__ explicit BulkRounds(uint64_t* barriers) : barriers_(barriers) {}

  /// Begins to copy; thread 0 does.
  __device__ void copy(void* to, const void* from, int bytes) const {
    if (threadIdx.x == 0)
      copyBulk(to, from, bytes, barriers_ + begun_ % 2);
  }

  /// Ends a round of copies.
  __device__ void end() {
    if (threadIdx.x == 0)
      arrive(barriers_ + begun_ % 2);
    ++begun_;
  }

  /// Waits for the oldest round.
  __device__ void wait() {
    waitBarrier(barriers_ + waited_ % 2, waited_ / 2 % 2);
    ++waited_;
  }

private:
  uint64_t* barriers_;
  unsigned begun_ = 0;
  unsigned waited_ = 0;
};

/// The same for copies of 16 bytes, by copyAsync16() of any thread.
class PieceRounds {
public:
  __device__ explicit PieceRounds(uint64_t*) {}

  __device__ static void init(uint64_t*) {}

  __device__ void end() {
    endCopies();
    ++underWay_;
  }

  __device__ void wait() {
    if (--underWay_ == 0)
      waitCopies<0>();
    else
      waitCopies<1>();
    publishShared();
  }

private:
  int underWay_ = 0; // rounds: one or two
};

} // namespace llmrt::cuda
