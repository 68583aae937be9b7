// SPDX-License-Identifier: Apache-2.0
// The threads of one rank. Tiles are numbered row by row; each thread begins
// with a contiguous share, takes it from the front in chunks, and then steals
// the back half of what another has left, so that a thread that loses its core
// delays one chunk only. Waiting threads spin for a bounded time and then sleep
// on a futex.
#include "runtime/device/cpu/ThreadPool.h"

#include <algorithm>
#include <cassert>
#include <ctime>
#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace llmrt {
namespace {

/// A share is taken in this many chunks: enough to even out a disturbed core,
/// few enough that `linear` repacks its rows rarely.
constexpr int64_t kChunksPerShare = 8;

void sleepWhile(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE,
          value, nullptr, nullptr, 0);
}

void wake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE,
          count, nullptr, nullptr, 0);
}

int64_t nowMicros() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

// Spins until done() or until the time is over; returns done().
template <typename Done>
bool spin(int64_t micros, Done done) {
  int64_t deadline = 0;
  for (int round = 0;; ++round) {
    for (int i = 0; i < 64; ++i) {
      if (done())
        return true;
      _mm_pause();
    }
    int64_t now = nowMicros();
    if (round == 0)
      deadline = now + micros;
    else if (now >= deadline)
      return done();
  }
}

int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

} // namespace

struct ThreadPool::Job {
  LlmrtKernelFn fn;
  const uint64_t* args;
  TileGrid grid;
  int64_t colTiles;
  int64_t numTiles;
};

// Tiles [begin, end) that a thread still has to take, as two halves of one
// word, so that owner and thieves agree by one compare-and-swap.
struct alignas(64) ThreadPool::Share {
  std::atomic<uint64_t> range{0};
  int64_t chunk = 1; // written by its owner only

  static uint64_t pack(uint64_t begin, uint64_t end) {
    return end << 32 | begin;
  }

  static int64_t begin(uint64_t range) { return range & 0xFFFFFFFF; }

  static int64_t end(uint64_t range) { return range >> 32; }
};

struct ThreadPool::Workers {
  std::vector<std::thread> threads;
};

ThreadPool::ThreadPool(const Options& options)
    : numThreads_(std::max(1, options.numThreads)),
      spinMicros_(options.spinMicros), job_(std::make_unique<Job>()),
      shares_(std::make_unique<Share[]>(numThreads_)),
      workers_(std::make_unique<Workers>()) {
  for (int t = 1; t < numThreads_; ++t) {
    workers_->threads.emplace_back([this, t] { workerLoop(t); });
    if (!options.pinThreads)
      continue;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(options.firstCpu + t, &cpus);
    // A CPU that the process may not use leaves the thread where it is.
    pthread_setaffinity_np(workers_->threads.back().native_handle(),
                           sizeof(cpus), &cpus);
  }
}

ThreadPool::~ThreadPool() {
  ending_.store(true, std::memory_order_relaxed);
  launch_.fetch_add(2, std::memory_order_seq_cst);
  wake(launch_, numThreads_);
  for (std::thread& thread : workers_->threads)
    thread.join();
}

void ThreadPool::useScratch(void* memory, int64_t bytesPerThread) {
  ownScratch_.reset();
  scratch_ = static_cast<char*>(memory);
  scratchBytesPerThread_ = bytesPerThread / 64 * 64;
}

void ThreadPool::reserveScratch(int64_t bytes) {
  if (bytes <= scratchBytesPerThread_)
    return;
  assert((scratch_ == nullptr || ownScratch_) &&
         "a kernel needs more scratch than useScratch() gave");
  scratchBytesPerThread_ = divideUp(bytes, 4096) * 4096;
  ownScratch_.reset(new char[scratchBytesPerThread_ * numThreads_ + 64]);
  auto address = reinterpret_cast<uintptr_t>(ownScratch_.get());
  scratch_ = ownScratch_.get() + (64 - address % 64);
}

void ThreadPool::runTiles(int64_t begin, int64_t end, void* scratch) const {
  const Job& job = *job_;
  const TileGrid& g = job.grid;
  while (begin < end) {
    // The largest rectangle that starts here: a part of one row of tiles, or
    // whole rows.
    int64_t row = begin / job.colTiles;
    int64_t col = begin % job.colTiles;
    int64_t rows =
        col == 0 ? std::max<int64_t>((end - begin) / job.colTiles, 1) : 1;
    int64_t cols = std::min(job.colTiles - col, end - begin);
    LlmrtTile tile{row * g.rowTile, std::min((row + rows) * g.rowTile, g.rows),
                   col * g.colTile, std::min((col + cols) * g.colTile, g.cols)};
    job.fn(job.args, &tile, scratch);
    begin += rows * cols;
  }
}

bool ThreadPool::stealFor(int thread) {
  for (int i = 1; i < numThreads_; ++i) {
    Share& victim = shares_[(thread + i) % numThreads_];
    uint64_t range = victim.range.load(std::memory_order_relaxed);
    while (Share::begin(range) < Share::end(range)) {
      int64_t left = Share::end(range) - Share::begin(range);
      int64_t cut = Share::end(range) - divideUp(left, 2);
      if (!victim.range.compare_exchange_weak(
              range, Share::pack(Share::begin(range), cut),
              std::memory_order_acq_rel, std::memory_order_relaxed))
        continue;
      shares_[thread].chunk = divideUp(left, 2 * kChunksPerShare);
      shares_[thread].range.store(Share::pack(cut, Share::end(range)),
                                  std::memory_order_release);
      return true;
    }
  }
  return false;
}

void ThreadPool::work(int thread) {
  Share& share = shares_[thread];
  char* scratch = scratch_ + thread * scratchBytesPerThread_;
  do {
    uint64_t range = share.range.load(std::memory_order_acquire);
    while (Share::begin(range) < Share::end(range)) {
      int64_t begin = Share::begin(range);
      int64_t end = std::min(begin + share.chunk, Share::end(range));
      if (!share.range.compare_exchange_weak(
              range, Share::pack(end, Share::end(range)),
              std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      runTiles(begin, end, scratch);
      range = share.range.load(std::memory_order_acquire);
    }
  } while (stealFor(thread));
}

void ThreadPool::workerLoop(int thread) {
  uint32_t seen = 0;
  auto called = [&] {
    uint32_t launch = launch_.load(std::memory_order_acquire);
    return (launch % 2 == 1 && launch != seen) ||
           ending_.load(std::memory_order_relaxed);
  };
  for (;;) {
    if (!spin(spinMicros_, called)) {
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      for (;;) {
        uint32_t launch = launch_.load(std::memory_order_seq_cst);
        if (called())
          break;
        sleepWhile(launch_, launch);
      }
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
    if (ending_.load(std::memory_order_relaxed))
      return;
    active_.fetch_add(1, std::memory_order_seq_cst);
    seen = launch_.load(std::memory_order_seq_cst);
    if (seen % 2 == 1)
      work(thread);
    if (active_.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
        callerSleeps_.load(std::memory_order_seq_cst))
      wake(active_, 1);
  }
}

void ThreadPool::open() {
  launch_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0)
    wake(launch_, numThreads_);
}

void ThreadPool::close() {
  launch_.fetch_add(1, std::memory_order_seq_cst);
  auto alone = [&] { return active_.load(std::memory_order_seq_cst) == 0; };
  if (spin(spinMicros_, alone))
    return;
  callerSleeps_.store(1, std::memory_order_seq_cst);
  for (uint32_t left = active_.load(std::memory_order_seq_cst); left != 0;
       left = active_.load(std::memory_order_seq_cst))
    sleepWhile(active_, left);
  callerSleeps_.store(0, std::memory_order_relaxed);
}

void ThreadPool::run(const TileGrid& grid, LlmrtKernelFn fn,
                     const uint64_t* args, int64_t scratchBytes) {
  if (grid.rows <= 0 || grid.cols <= 0)
    return;
  reserveScratch(scratchBytes);
  Job& job = *job_;
  job = {fn, args, grid, 0, 0};
  if (grid.rowTile <= 0 || grid.rowTile > grid.rows)
    job.grid.rowTile = grid.rows;
  if (grid.colTile <= 0 || grid.colTile > grid.cols)
    job.grid.colTile = grid.cols;
  job.colTiles = divideUp(grid.cols, job.grid.colTile);
  job.numTiles = divideUp(grid.rows, job.grid.rowTile) * job.colTiles;
  assert(job.numTiles <= 0xFFFFFFFF);
  if (numThreads_ == 1 || job.numTiles == 1)
    return runTiles(0, job.numTiles, scratch_);
  for (int t = 0; t < numThreads_; ++t) {
    int64_t begin = job.numTiles * t / numThreads_;
    int64_t end = job.numTiles * (t + 1) / numThreads_;
    shares_[t].chunk =
        std::max<int64_t>(1, divideUp(end - begin, kChunksPerShare));
    shares_[t].range.store(Share::pack(begin, end), std::memory_order_relaxed);
  }
  open();
  work(0);
  close();
}

} // namespace llmrt
