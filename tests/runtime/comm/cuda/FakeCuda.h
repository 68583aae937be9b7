// SPDX-License-Identifier: Apache-2.0
// A CudaTable for tests without a GPU: streams are threads, memory is the
// host's, and a stream can be captured and replayed.
#pragma once

#include "runtime/comm/cuda/CudaTable.h"
#include "tests/runtime/comm/cuda/FakeStream.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace llmrt::testing {

class FakeCudaStream final : public FakeStream {
public:
  FakeCudaStream();
  /// Runs what is enqueued before it ends.
  ~FakeCudaStream() override;

  void enqueue(std::function<void()> work) override;
  bool isIdle();

  /// Keeps what is enqueued instead of running it.
  void beginCapture();
  std::vector<std::function<void()>> endCapture();
  uint64_t captureId();
  /// Enqueues what was captured.
  void replay(const std::vector<std::function<void()>>& graph);

private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool isRunning_ = false;
  bool isClosing_ = false;
  uint64_t captureId_ = 0;
  std::vector<std::function<void()>> captured_;
  std::thread thread_;
};

/// `reachesPeers`: other devices' memory can be opened.
CudaTable fakeCudaTable(bool reachesPeers = true);

/// Allocations, streams, events and opened memory that have not been given
/// back.
int numFakeCudaObjects();

/// Sums over peers that all ranks have enqueued so far.
int numFakePeerSums();

} // namespace llmrt::testing
