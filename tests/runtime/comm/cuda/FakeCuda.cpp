// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/cuda/FakeCuda.h"

#include "runtime/comm/RankOrderSum.h"
#include "tests/runtime/comm/cuda/EmulatedPeerSum.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace llmrt::testing {
namespace {

std::atomic<int> numObjects{0};
constexpr int kNoPeerAccess = 217; // cudaErrorPeerAccessUnsupported

class FakeEvent {
public:
  void record(FakeStream& stream) {
    uint64_t number = ++numRecorded_;
    stream.enqueue([state = state_, number] {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->numDone = std::max(state->numDone, number);
      state->changed.notify_all();
    });
  }

  void waitOn(FakeStream& stream) {
    stream.enqueue([state = state_, number = numRecorded_] {
      std::unique_lock<std::mutex> lock(state->mutex);
      state->changed.wait(lock, [&] { return state->numDone >= number; });
    });
  }

private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    uint64_t numDone = 0;
  };

  uint64_t numRecorded_ = 0; // by the thread that enqueues
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

int allocate(int, void** memory, int64_t sizeBytes) {
  *memory = std::calloc(1, sizeBytes);
  ++numObjects;
  return 0;
}

int release(int, void* memory) {
  std::free(memory);
  --numObjects;
  return 0;
}

template <typename Object>
int create(int, void** object) {
  *object = new Object();
  ++numObjects;
  return 0;
}

template <typename Object>
int destroy(int, void* object) {
  delete static_cast<Object*>(object);
  --numObjects;
  return 0;
}

FakeCudaStream& streamOf(void* stream) {
  return *static_cast<FakeCudaStream*>(stream);
}

int mark(int, void* stream, uint64_t* word, uint32_t* count, uint32_t number) {
  streamOf(stream).enqueue([=] {
    std::atomic_ref<uint64_t>(*word).store(uint64_t{++*count} << 32 | number,
                                           std::memory_order_release);
  });
  return 0;
}

// Ranks are threads of one process, as two GPUs of a host are.
std::atomic<int> numPeerSums{0};

int shareMemory(int, void* memory, CudaTable::SharedMemory* shared) {
  *shared = {};
  shared->address = reinterpret_cast<uint64_t>(memory);
  return 0;
}

int openShared(int, const CudaTable::SharedMemory* shared, void** memory) {
  *memory = reinterpret_cast<void*>(shared->address);
  ++numObjects;
  return 0;
}

int closeShared(int, void*) {
  --numObjects;
  return 0;
}

int sumOverPeers(int, void* stream, const PeerSumCall& call) {
  ++numPeerSums;
  streamOf(stream).enqueue([call] { emulatePeerSum(call); });
  return 0;
}

} // namespace

int numFakePeerSums() { return numPeerSums; }

FakeCudaStream::FakeCudaStream() : thread_([this] { work(); }) {}

FakeCudaStream::~FakeCudaStream() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    isClosing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeCudaStream::enqueue(std::function<void()> work) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (captureId_ != 0) {
      captured_.push_back(std::move(work));
      return;
    }
    queue_.push_back(std::move(work));
  }
  changed_.notify_all();
}

bool FakeCudaStream::isIdle() {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.empty() && !isRunning_;
}

void FakeCudaStream::beginCapture() {
  static std::atomic<uint64_t> numCaptures{0};
  std::lock_guard<std::mutex> lock(mutex_);
  captureId_ = ++numCaptures;
}

std::vector<std::function<void()>> FakeCudaStream::endCapture() {
  std::lock_guard<std::mutex> lock(mutex_);
  captureId_ = 0;
  return std::move(captured_);
}

uint64_t FakeCudaStream::captureId() {
  std::lock_guard<std::mutex> lock(mutex_);
  return captureId_;
}

void FakeCudaStream::replay(const std::vector<std::function<void()>>& graph) {
  for (const auto& work : graph)
    enqueue(work);
}

void FakeCudaStream::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return isClosing_ || !queue_.empty(); });
    if (queue_.empty())
      return;
    std::function<void()> next = std::move(queue_.front());
    queue_.pop_front();
    isRunning_ = true;
    lock.unlock();
    next();
    next = nullptr;
    lock.lock();
    isRunning_ = false;
  }
}

CudaTable fakeCudaTable(bool reachesPeers) {
  CudaTable table;
  table.streamCreate = create<FakeCudaStream>;
  table.streamDestroy = destroy<FakeCudaStream>;
  table.streamQuery = [](int, void* stream) {
    return streamOf(stream).isIdle() ? 0 : CudaTable::kNotReady;
  };
  table.captureId = [](int, void* stream, uint64_t* id) {
    *id = streamOf(stream).captureId();
    return 0;
  };
  table.eventCreate = create<FakeEvent>;
  table.eventDestroy = destroy<FakeEvent>;
  table.eventRecord = [](int, void* event, void* stream) {
    static_cast<FakeEvent*>(event)->record(streamOf(stream));
    return 0;
  };
  table.streamWaitEvent = [](int, void* stream, void* event) {
    static_cast<FakeEvent*>(event)->waitOn(streamOf(stream));
    return 0;
  };
  table.allocatePinned = allocate;
  table.freePinned = release;
  table.allocateDevice = allocate;
  table.freeDevice = release;
  table.copy = [](int, void* stream, void* to, const void* from,
                  int64_t sizeBytes) {
    streamOf(stream).enqueue([=] { std::memcpy(to, from, sizeBytes); });
    return 0;
  };
  table.mark = mark;
  table.addInRankOrder = [](int, void* stream, void* out,
                            const void* const* blocks, int numBlocks,
                            int64_t numElements, DType dtype) {
    std::vector<const void*> all(blocks, blocks + numBlocks);
    streamOf(stream).enqueue(
        [=] { llmrt::addInRankOrder(out, all, numElements, dtype); });
    return 0;
  };
  table.shareMemory = shareMemory;
  table.openShared = openShared;
  if (!reachesPeers)
    table.openShared = [](int, const CudaTable::SharedMemory*, void**) {
      return kNoPeerAccess;
    };
  table.closeShared = closeShared;
  table.sumOverPeers = sumOverPeers;
  table.errorText = [](int) { return "fake CUDA error"; };
  return table;
}

int numFakeCudaObjects() { return numObjects; }

} // namespace llmrt::testing
