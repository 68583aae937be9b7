// SPDX-License-Identifier: Apache-2.0
// How much anonymous memory this process really has in RAM: what was allocated
// and touched, without mapped files. The oracle for what a plan says it needs.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace llmrt {

/// Returns the bytes of /proc/self/statm that no file backs; 0 without /proc.
int64_t anonymousResidentBytes();

/// Looks every few milliseconds, from its creation on.
class ResidentMonitor {
public:
  ResidentMonitor();
  ~ResidentMonitor();
  ResidentMonitor(const ResidentMonitor&) = delete;
  ResidentMonitor& operator=(const ResidentMonitor&) = delete;

  /// Returns what was there at its creation.
  int64_t baselineBytes() const { return baselineBytes_; }

  /// Looks once more, and returns the most that was seen.
  int64_t peakBytes();

private:
  void look();

  const int64_t baselineBytes_;
  std::atomic<int64_t> peakBytes_;
  std::mutex mutex_;
  std::condition_variable ends_;
  bool isEnding_ = false;
  std::thread thread_;
};

} // namespace llmrt
