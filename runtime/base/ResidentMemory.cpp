// SPDX-License-Identifier: Apache-2.0
// Source  proc(5): statm counts pages, `resident` and of these `shared`, which
// are the ones of files and shared memory.
#include "runtime/base/ResidentMemory.h"

#include <chrono>
#include <fstream>
#include <unistd.h>

namespace llmrt {

int64_t anonymousResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0, shared = 0;
  if (!(file >> size >> resident >> shared))
    return 0;
  return (resident - shared) * sysconf(_SC_PAGESIZE);
}

ResidentMonitor::ResidentMonitor()
    : baselineBytes_(anonymousResidentBytes()), peakBytes_(baselineBytes_),
      thread_([this] {
        constexpr auto kInterval = std::chrono::milliseconds(5);
        std::unique_lock lock(mutex_);
        while (!ends_.wait_for(lock, kInterval, [this] { return isEnding_; }))
          look();
      }) {}

ResidentMonitor::~ResidentMonitor() {
  {
    std::lock_guard lock(mutex_);
    isEnding_ = true;
  }
  ends_.notify_one();
  thread_.join();
}

int64_t ResidentMonitor::peakBytes() {
  look();
  return peakBytes_;
}

void ResidentMonitor::look() {
  int64_t now = anonymousResidentBytes();
  int64_t seen = peakBytes_;
  while (now > seen && !peakBytes_.compare_exchange_weak(seen, now)) {
  }
}

} // namespace llmrt
