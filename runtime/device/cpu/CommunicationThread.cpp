// SPDX-License-Identifier: Apache-2.0
// Both sides spin for a short, bounded time and then sleep: on a machine with
// fewer cores than threads, long spinning takes the core from whoever is waited
// for.
#include "runtime/device/cpu/CommunicationThread.h"

#include <chrono>
#include <immintrin.h>

namespace llmrt {
namespace {

// Waits until `isReady`; `sleeps` tells the other side that it must notify
// `word`.
template <typename Ready>
void waitUntil(std::atomic<uint32_t>& word, std::atomic<bool>& sleeps,
               int64_t spinNanos, Ready isReady) {
  auto begin = std::chrono::steady_clock::now();
  for (int i = 0; !isReady(); ++i) {
    _mm_pause();
    if (i % 64 == 63 &&
        (std::chrono::steady_clock::now() - begin).count() > spinNanos)
      break;
  }
  while (!isReady()) {
    uint32_t seen = word.load(std::memory_order_seq_cst);
    sleeps.store(true, std::memory_order_seq_cst);
    if (!isReady())
      word.wait(seen, std::memory_order_seq_cst);
    sleeps.store(false, std::memory_order_relaxed);
  }
}

} // namespace

CommunicationThread::~CommunicationThread() {
  if (!thread_.joinable())
    return;
  post(nullptr);
  thread_.join();
}

void CommunicationThread::enqueue(StreamCall& work) {
  if (!thread_.joinable())
    thread_ = std::thread([this] { loop(); });
  post(&work);
}

void CommunicationThread::post(StreamCall* work) {
  waitFor(numEnqueued_ - kCapacity + 1); // whoever had this place has run
  queue_[numEnqueued_ % kCapacity] = work;
  ++numEnqueued_;
  posted_.store(numEnqueued_, std::memory_order_seq_cst);
  if (workerSleeps_.load(std::memory_order_seq_cst))
    posted_.notify_one();
}

void CommunicationThread::waitFor(uint32_t ticket) {
  if (!isDone(ticket))
    waitUntil(numDone_, callerSleeps_, kSpinNanos,
              [&] { return isDone(ticket); });
}

absl::Status CommunicationThread::takeStatus() {
  if (!hasFailed())
    return absl::OkStatus();
  hasFailed_.store(false, std::memory_order_release);
  return std::move(status_);
}

void CommunicationThread::loop() {
  for (uint32_t next = 0;; ++next) {
    waitUntil(posted_, workerSleeps_, kSpinNanos,
              [&] { return posted_.load(std::memory_order_acquire) != next; });
    StreamCall* work = queue_[next % kCapacity];
    if (!work)
      return;
    if (!hasFailed_.load(std::memory_order_relaxed)) {
      absl::Status status = work->run();
      if (!status.ok()) {
        status_ = std::move(status);
        hasFailed_.store(true, std::memory_order_release);
      }
    }
    numDone_.store(next + 1, std::memory_order_seq_cst);
    if (callerSleeps_.load(std::memory_order_seq_cst))
      numDone_.notify_one();
  }
}

} // namespace llmrt
