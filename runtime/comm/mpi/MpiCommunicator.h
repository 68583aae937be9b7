// SPDX-License-Identifier: Apache-2.0
// One group of MPI ranks. Private to runtime/comm/mpi.
#pragma once

#include "runtime/comm/mpi/MpiJob.h"

namespace llmrt::mpi {

class MpiCommunicator final : public Communicator {
public:
  MpiCommunicator(MpiJob* job, std::vector<int> worldRanks, int rank,
                  double timeoutSeconds);

  int rank() const override { return rank_; }

  int size() const override { return static_cast<int>(worldRanks_.size()); }

  int64_t reservedBytes() const override;
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
  /// A run of elements for each rank.
  struct Layout {
    int64_t numElements; // in all
    int64_t runElements; // of every rank; the last ones may hold fewer
    int64_t begin(int rank) const;
    int64_t length(int rank) const;
  };

  absl::Status reduceSmall(void* data, int64_t numElements, DType dtype,
                           const CollectiveTag& tag);
  /// Sums run rank() of every rank's `send` into `recv`, in rounds that bound
  /// the receive buffer; the next round arrives while this one is added.
  absl::Status reduceRuns(const void* send, void* recv, const Layout& layout,
                          DType dtype, const CollectiveTag& tag);
  void receive(void* data, int64_t sizeBytes, int peer);
  void send(const void* data, int64_t sizeBytes, int peer);

  absl::Status complete(const CollectiveTag& tag) {
    return job_->complete(transfers_, timeoutSeconds_, tag);
  }

  /// Starts a collective: refuses if the run is aborted.
  absl::Status start();

  MpiJob* job_;
  std::vector<int> worldRanks_;
  int rank_;
  int tag_;
  double timeoutSeconds_;
  Transfers transfers_;
  std::vector<uint8_t> received_; // grows to kReceiveBytes at most
};

} // namespace llmrt::mpi
