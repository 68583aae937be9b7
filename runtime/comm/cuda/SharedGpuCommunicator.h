// SPDX-License-Identifier: Apache-2.0
// One group of rank threads on one GPU. Private to runtime/comm/cuda.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/cuda/CudaTable.h"

#include <mutex>

namespace llmrt::cuda {

/// The events of all ranks. They live until the last rank is gone: a rank may
/// still enqueue a wait for an event of one that has left its call.
class SharedEvents {
public:
  explicit SharedEvents(const CudaTable& cuda) : cuda_(cuda) {}

  ~SharedEvents();

  absl::StatusOr<void*> create();

private:
  CudaTable cuda_;
  std::mutex mutex_;
  std::vector<void*> all_;
};

class SharedGpuCommunicator final : public Communicator {
public:
  /// `group` is the same group over host memory, of `fabric`.
  SharedGpuCommunicator(Fabric& fabric, std::unique_ptr<Communicator> group,
                        absl::Span<const int> worldRanks, const CudaTable& cuda,
                        std::shared_ptr<SharedEvents> events);

  int rank() const override { return host_->rank(); }

  int size() const override { return host_->size(); }

  int64_t reservedBytes() const override { return host_->reservedBytes(); }

  absl::Status allGatherBucket(absl::Span<const BucketPart> parts,
                               const CollectiveTag& tag) override;
  absl::Status reduceScatterBucket(absl::Span<const BucketPart> parts,
                                   DType dtype,
                                   const CollectiveTag& tag) override;
  absl::Status allReduce(void* data, int64_t numElements, DType dtype,
                         const CollectiveTag& tag) override;
  absl::Status allToAll(const void* send, void* recv, int64_t sizeBytes,
                        const CollectiveTag& tag) override;
  absl::Status broadcast(void* data, int64_t sizeBytes, int root,
                         const CollectiveTag& tag) override;
  absl::Status exchange(const void* send, int64_t sendBytes, int sendPeer,
                        void* recv, int64_t recvBytes, int recvPeer,
                        const CollectiveTag& tag) override;
  absl::Status barrier(const CollectiveTag& tag) override;

private:
  enum Operation : int32_t {
    AllGather,
    ReduceScatter,
    AllReduce,
    AllToAll,
    Broadcast,
    Barrier
  };

  /// Events of a collective. An event is recorded again only after a meeting at
  /// which all had enqueued their waits for it.
  enum Phase { Entered, Summed, Left, kNumPhases };

  /// What a rank shows the others: it stays in its call while they read.
  struct Post {
    const BucketPart* parts = nullptr;
    int64_t sizeBytes = 0;
    int32_t numParts = 0;
    int32_t operation = 0;
    void* events[kNumPhases] = {};
  };

  /// What a sender shows a receiver.
  struct Parcel {
    const void* data = nullptr;
    int64_t sizeBytes = 0;
    void* event = nullptr;
  };

  /// Shows the parts to the group; after it the stream is behind what all
  /// streams of the group had before, and posts_ are readable until leave().
  absl::Status enter(int32_t operation, absl::Span<const BucketPart> parts,
                     int64_t sizeBytes, const CollectiveTag& tag);
  /// Puts the stream behind what all ranks enqueued since the last meeting.
  absl::Status meet(Phase phase, const CollectiveTag& tag);

  absl::Status leave(const CollectiveTag& tag) { return meet(Left, tag); }

  absl::Status checkPosts(const CollectiveTag& tag);
  /// Refuses a captured stream; makes the events at the first call.
  absl::Status prepare(const CollectiveTag& tag);
  absl::Status waitForOthers(Phase phase, const CollectiveTag& tag);
  absl::Status copy(void* to, const void* from, int64_t sizeBytes,
                    const CollectiveTag& tag);
  absl::Status sum(void* out, int64_t offsetBytes, size_t part,
                   int64_t numElements, DType dtype, const CollectiveTag& tag);
  absl::Status record(void* event, const CollectiveTag& tag);
  absl::Status waitFor(void* event, const CollectiveTag& tag);

  Fabric& fabric_;
  std::unique_ptr<Communicator> host_;
  std::vector<int> worldRanks_;
  CudaTable cuda_;
  std::shared_ptr<SharedEvents> allEvents_;
  std::vector<Post> posts_;
  void* events_[kNumPhases] = {};
  std::vector<void*> sent_;  // by peer: what this rank sends is ready
  std::vector<void*> taken_; // by peer: what came from it is copied
};

} // namespace llmrt::cuda
