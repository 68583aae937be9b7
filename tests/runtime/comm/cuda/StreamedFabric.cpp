// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/cuda/StreamedFabric.h"

#include "tests/runtime/comm/cuda/FakeCuda.h"

#include <chrono>
#include <thread>

namespace llmrt::testing {
namespace {

/// Puts the calls of the suite on a stream, and waits behind each.
class StreamedCommunicator final : public Communicator {
public:
  StreamedCommunicator(std::unique_ptr<Communicator> inner, Fabric& fabric,
                       FakeCudaStream& stream)
      : inner_(std::move(inner)), fabric_(fabric), stream_(stream) {}

  int rank() const override { return inner_->rank(); }

  int size() const override { return inner_->size(); }

  int64_t reservedBytes() const override { return inner_->reservedBytes(); }

  absl::Status allGatherBucket(absl::Span<const BucketPart> parts,
                               const CollectiveTag& tag) override {
    return finish(inner_->allGatherBucket(parts, onStream(tag)));
  }

  absl::Status reduceScatterBucket(absl::Span<const BucketPart> parts,
                                   DType dtype,
                                   const CollectiveTag& tag) override {
    return finish(inner_->reduceScatterBucket(parts, dtype, onStream(tag)));
  }

  absl::Status allReduce(void* data, int64_t numElements, DType dtype,
                         const CollectiveTag& tag) override {
    return finish(inner_->allReduce(data, numElements, dtype, onStream(tag)));
  }

  absl::Status allToAll(const void* send, void* recv, int64_t sizeBytes,
                        const CollectiveTag& tag) override {
    return finish(inner_->allToAll(send, recv, sizeBytes, onStream(tag)));
  }

  absl::Status broadcast(void* data, int64_t sizeBytes, int root,
                         const CollectiveTag& tag) override {
    return finish(inner_->broadcast(data, sizeBytes, root, onStream(tag)));
  }

  absl::Status exchange(const void* send, int64_t sendBytes, int sendPeer,
                        void* recv, int64_t recvBytes, int recvPeer,
                        const CollectiveTag& tag) override {
    return finish(inner_->exchange(send, sendBytes, sendPeer, recv, recvBytes,
                                   recvPeer, onStream(tag)));
  }

  absl::Status barrier(const CollectiveTag& tag) override {
    return finish(inner_->barrier(onStream(tag)));
  }

private:
  CollectiveTag onStream(CollectiveTag tag) {
    tag.stream = &stream_;
    return tag;
  }

  absl::Status finish(const absl::Status& status) {
    for (int turn = 0; !stream_.isIdle(); ++turn) {
      if (turn < 1000)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return status.ok() ? fabric_.abortStatus() : status;
  }

  std::unique_ptr<Communicator> inner_;
  Fabric& fabric_;
  FakeCudaStream& stream_;
};

class StreamedFabric final : public Fabric {
public:
  explicit StreamedFabric(Fabric& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }

  int size() const override { return inner_.size(); }

  const char* name() const override { return inner_.name(); }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    auto made = inner_.createCommunicator(worldRanks);
    if (!made.ok())
      return made.status();
    return std::make_unique<StreamedCommunicator>(std::move(*made), inner_,
                                                  stream_);
  }

  void abort(const absl::Status& reason) override { inner_.abort(reason); }

  absl::Status abortStatus() const override { return inner_.abortStatus(); }

private:
  Fabric& inner_;
  FakeCudaStream stream_;
};

} // namespace

void runOnStream(Fabric& fabric, const std::function<void(Fabric&)>& body) {
  StreamedFabric streamed(fabric);
  body(streamed);
}

} // namespace llmrt::testing
