// SPDX-License-Identifier: Apache-2.0
// The threads of one rank. Cuts a kernel's tile grid into rectangles and runs
// them on the caller and its workers. Which thread runs which tile changes from
// run to run; kernels give the same bits for every cut, so results do not.
// Knows nothing of plans.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include <atomic>
#include <memory>
#include <vector>

namespace llmrt {

/// The iteration space of one launch. Tiles of 0 rows or columns mean the whole
/// extent.
struct TileGrid {
  int64_t rows;
  int64_t cols;
  int64_t rowTile;
  int64_t colTile;
};

class ThreadPool {
public:
  struct Options {
    int numThreads = 1; // the caller included; at least 1
    bool pinThreads = false;
    int firstCpu = 0; // with pinThreads: thread t runs on CPU firstCpu + t
    int64_t spinMicros = 50; // before a waiting thread sleeps
  };

  explicit ThreadPool(const Options& options);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int numThreads() const { return numThreads_; }

  /// Gives each thread `bytesPerThread` of `memory`, 64-byte aligned,
  /// numThreads times. The caller keeps the memory alive. Without this the pool
  /// allocates its own.
  void useScratch(void* memory, int64_t bytesPerThread);

  /// Runs `fn` over the grid and returns when all of it is done. Rectangles are
  /// whole numbers of tiles, the last of a row or column cut off at the grid's
  /// end. Called by one thread at a time; not from a kernel.
  void run(const TileGrid& grid, LlmrtKernelFn fn, const uint64_t* args,
           int64_t scratchBytes);

private:
  struct Job;
  struct Share;
  void workerLoop(int thread);
  void work(int thread);
  void runTiles(int64_t begin, int64_t end, void* scratch) const;
  bool stealFor(int thread);
  void reserveScratch(int64_t bytes);
  void open();
  void close();

  const int numThreads_;
  const int64_t spinMicros_;
  std::unique_ptr<Job> job_;
  std::unique_ptr<Share[]> shares_; // [numThreads]
  std::unique_ptr<char[]> ownScratch_;
  char* scratch_ = nullptr;
  int64_t scratchBytesPerThread_ = 0;
  // Odd while a launch is open to workers; grows by one at each opening and
  // closing.
  alignas(64) std::atomic<uint32_t> launch_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> ending_{false};
  // Workers that may be using the open launch.
  alignas(64) std::atomic<uint32_t> active_{0};
  std::atomic<uint32_t> callerSleeps_{0};
  struct Workers;
  std::unique_ptr<Workers> workers_;
};

} // namespace llmrt
