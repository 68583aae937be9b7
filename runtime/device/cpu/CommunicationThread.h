// SPDX-License-Identifier: Apache-2.0
// Private to the cpu device: the communication stream, one thread that runs
// calls in the order in which they were enqueued. One thread enqueues and
// waits.
#pragma once

#include "runtime/device/Device.h"

#include <atomic>
#include <thread>
#include <vector>

namespace llmrt {

class CommunicationThread {
public:
  CommunicationThread() = default;
  /// Runs what is enqueued, then ends.
  ~CommunicationThread();
  CommunicationThread(const CommunicationThread&) = delete;
  CommunicationThread& operator=(const CommunicationThread&) = delete;

  /// Starts the thread on the first call.
  void enqueue(StreamCall& work);

  /// Number of calls enqueued so far: a ticket to wait for.
  uint32_t numEnqueued() const { return numEnqueued_; }

  bool isDone(uint32_t ticket) const {
    uint32_t ahead = numDone_.load(std::memory_order_acquire) - ticket;
    return static_cast<int32_t>(ahead) >= 0;
  }

  /// Returns when the first `ticket` calls have run.
  void waitFor(uint32_t ticket);

  bool hasFailed() const { return hasFailed_.load(std::memory_order_acquire); }

  /// Returns the first error since the last call of this and forgets it.
  /// Everything enqueued must have run.
  absl::Status takeStatus();

private:
  static constexpr uint32_t kCapacity = 1024;
  static constexpr int64_t kSpinNanos = 20000;

  void post(StreamCall* work); // null ends the loop
  void loop();

  // Written by the enqueuing thread.
  uint32_t numEnqueued_ = 0;
  std::vector<StreamCall*> queue_ = std::vector<StreamCall*>(kCapacity);
  alignas(128) std::atomic<uint32_t> posted_{0};
  std::atomic<bool> workerSleeps_{false};
  alignas(128) std::atomic<uint32_t> numDone_{0};
  std::atomic<bool> callerSleeps_{false};
  std::atomic<bool> hasFailed_{false};
  absl::Status status_; // of the worker; read when it is idle
  std::thread thread_;
};

} // namespace llmrt
