// SPDX-License-Identifier: Apache-2.0
// Each thread reads its own part in every repetition. Several ways to read (one
// stream or four, with and without prefetch), because machines differ in which
// is best.
#include "tools/llmrt/MemoryCeilings.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstring>
#include <functional>
#include <sched.h>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace llmrt {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 30;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int kNumReads = 5;
constexpr int kNumWays = 4;

typedef uint64_t Lanes __attribute__((vector_size(64)));

template <int streams, int prefetchBytes>
inline __attribute__((always_inline)) uint64_t readPart(const char* begin,
                                                        int64_t sizeBytes) {
  Lanes sums[streams] = {};
  int64_t part = sizeBytes / streams / 128 * 128;
  for (int64_t at = 0; at < part; at += 128)
    for (int s = 0; s < streams; ++s) {
      const char* from = begin + s * part + at;
      if (prefetchBytes > 0) {
        __builtin_prefetch(from + prefetchBytes);
        __builtin_prefetch(from + prefetchBytes + 64);
      }
      Lanes first;
      Lanes second;
      std::memcpy(&first, from, 64);
      std::memcpy(&second, from + 64, 64);
      sums[s] += first;
      sums[s] += second;
    }
  uint64_t sum = 0; // of every lane, so that none of the reads is left out
  for (int s = 0; s < streams; ++s)
    for (int lane = 0; lane < 8; ++lane)
      sum += sums[s][lane];
  return sum;
}

__attribute__((target_clones("avx512f", "avx2", "default"))) uint64_t
readTile(const char* begin, int64_t sizeBytes, int way) {
  switch (way) {
  case 0:
    return readPart<1, 0>(begin, sizeBytes);
  case 1:
    return readPart<1, 2048>(begin, sizeBytes);
  case 2:
    return readPart<4, 0>(begin, sizeBytes);
  default:
    return readPart<4, 1024>(begin, sizeBytes);
  }
}

/// The launcher may have bound this process to fewer CPUs than its ranks have
/// together.
void useEveryCpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (unsigned cpu = 0; cpu < std::thread::hardware_concurrency(); ++cpu)
    CPU_SET(cpu, &cpus);
  sched_setaffinity(0, sizeof(cpus), &cpus);
}

/// Anonymous memory in huge pages, not touched yet.
class HugeMemory {
public:
  explicit HugeMemory(int64_t sizeBytes)
      : mappedBytes_(sizeBytes + kHugePage),
        mapped_(mmap(nullptr, mappedBytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (mapped_ == MAP_FAILED)
      return;
    auto address = (reinterpret_cast<uintptr_t>(mapped_) + kHugePage - 1) /
                   kHugePage * kHugePage;
    data_ = reinterpret_cast<char*>(address);
    madvise(data_, sizeBytes, MADV_HUGEPAGE);
  }

  ~HugeMemory() {
    if (mapped_ != MAP_FAILED)
      munmap(mapped_, mappedBytes_);
  }

  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;

  char* data() const { return data_; } // null if the system gives none

private:
  int64_t mappedBytes_;
  void* mapped_;
  char* data_ = nullptr;
};

void runThreads(int numThreads, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < numThreads; ++thread)
    threads.emplace_back(work, thread);
  for (std::thread& thread : threads)
    thread.join();
}

} // namespace

double measureReadCeiling(int numThreads) {
  HugeMemory huge(kReadBytes);
  char* memory = huge.data();
  if (!memory)
    return 0;
  int64_t part = kReadBytes / numThreads / kHugePage * kHugePage;
  std::barrier barrier(numThreads);
  std::vector<uint64_t> sums(numThreads * 8); // a cache line each
  double best = 0;
  auto work = [&](int thread) {
    useEveryCpu();
    const char* begin = memory + thread * part;
    std::memset(memory + thread * part, thread, part);
    for (int read = 0; read < kNumReads * kNumWays; ++read) {
      barrier.arrive_and_wait();
      auto start = std::chrono::steady_clock::now();
      for (int64_t at = 0; at < part; at += kHugePage / 2)
        sums[thread * 8] +=
            readTile(begin + at, kHugePage / 2, read % kNumWays);
      barrier.arrive_and_wait();
      std::chrono::duration<double> seconds =
          std::chrono::steady_clock::now() - start;
      if (thread == 0)
        best = std::max(best, part * numThreads / seconds.count());
    }
  };
  runThreads(numThreads, work);
  return best;
}

double measureCopySeconds(int64_t sizeBytes, int numThreads) {
  int64_t bytes = std::min(sizeBytes, kReadBytes);
  HugeMemory from(bytes);
  if (bytes <= 0 || !from.data())
    return 0;
  std::memset(from.data(), 1, bytes);
  int64_t part = bytes / numThreads;
  double best = 0;
  for (int copy = 0; copy < kNumReads; ++copy) {
    HugeMemory to(bytes);
    if (!to.data())
      return 0;
    auto start = std::chrono::steady_clock::now();
    runThreads(numThreads, [&](int thread) {
      useEveryCpu();
      int64_t end = thread + 1 == numThreads ? bytes : (thread + 1) * part;
      std::memcpy(to.data() + thread * part, from.data() + thread * part,
                  end - thread * part);
    });
    std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    best = copy == 0 ? seconds.count() : std::min(best, seconds.count());
  }
  return best * sizeBytes / bytes;
}

} // namespace llmrt
