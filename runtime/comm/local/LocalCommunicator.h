// SPDX-License-Identifier: Apache-2.0
// One group of rank threads. Private to runtime/comm/local.
#pragma once

#include "runtime/comm/local/LocalWorld.h"

namespace llmrt::local {

class LocalCommunicator final : public Communicator {
public:
  LocalCommunicator(std::shared_ptr<World> world, std::shared_ptr<Group> group,
                    int rank);

  int rank() const override { return rank_; }

  int size() const override { return group_->size(); }

  int64_t reservedBytes() const override { return group_->reservedBytes(); }

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
  enum Operation : uint32_t {
    AllGather,
    ReduceScatter,
    AllReduce,
    AllToAll,
    Broadcast,
    Barrier
  };

  /// Shows `data` to the group and waits until every rank did so. Copies it to
  /// staging memory first if it is small. After it, shown(r) is readable until
  /// leave().
  absl::Status enter(Operation operation, const void* data, int64_t sizeBytes,
                     const CollectiveTag& tag);
  /// As enter() for a bucket of which each part shows `numBlocks` blocks of
  /// size x unitBytes bytes.
  absl::Status enterBucket(Operation operation,
                           absl::Span<const BucketPart> parts, int numBlocks,
                           int64_t unitBytes, const CollectiveTag& tag);
  absl::Status meetShown(const CollectiveTag& tag);
  const uint8_t* shown(int rank) const;
  /// What a rank shows of part `i`, which begins `offset` bytes into all parts.
  const uint8_t* shownPart(int rank, size_t i, int64_t offset) const;
  /// Waits until nobody reads what this rank showed.
  absl::Status leave(const CollectiveTag& tag);
  absl::Status meet(const CollectiveTag& tag);
  absl::Status checkPosts(const CollectiveTag& tag) const;
  bool isStaged() const;
  /// Marks that this rank reads other ranks' buffers; fails if the run is
  /// aborted.
  absl::Status startReading();
  void stopReading();
  /// After an abort the caller frees its buffers: waits for ranks that copy
  /// from them.
  absl::Status waitForReaders(absl::Status status) const;

  int worldRank() const { return group_->worldRanks[rank_]; }

  std::shared_ptr<World> world_;
  std::shared_ptr<Group> group_;
  int rank_;
  uint32_t phase_ = 0;      // how often the group met
  uint32_t shownPhase_ = 0; // of the last enter()

  struct PeerCounts {
    uint32_t numSent = 0;
    uint32_t numReceived = 0;
  };

  std::vector<PeerCounts> peers_;
};

} // namespace llmrt::local
