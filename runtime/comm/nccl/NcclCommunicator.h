// SPDX-License-Identifier: Apache-2.0
// One group of GPU ranks. Private to runtime/comm/nccl.
#pragma once

#include "runtime/comm/nccl/NcclRank.h"

namespace llmrt::nccl {

class NcclCommunicator final : public Communicator {
public:
  NcclCommunicator(std::shared_ptr<NcclRank> rank,
                   std::shared_ptr<Group> group);
  ~NcclCommunicator() override;

  int rank() const override { return group_->rank; }

  int size() const override {
    return static_cast<int>(group_->worldRanks.size());
  }

  /// What NCCL itself holds is counted by the device as the library's.
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
  /// An operand of a call: where the caller has it, and its size.
  struct Operand {
    const void* input = nullptr; // null: nothing goes in
    void* output = nullptr;      // null: nothing comes out
    int64_t sizeBytes = 0;
    uint8_t* device = nullptr; // where the call finds it
  };

  /// Runs `work` over the operands: directly if the call is on a stream, else
  /// through memory of the device, and waits.
  absl::Status run(const CallSite& site, absl::Span<Operand> operands,
                   NcclRank::Work work);
  absl::Status runOnHost(const CallSite& site, absl::Span<Operand> operands,
                         NcclRank::Work work);
  absl::Status allocate(int64_t sizeBytes, uint8_t*& memory);

  std::shared_ptr<NcclRank> owner_;
  std::shared_ptr<Group> group_;
  uint8_t* staging_ = nullptr; // from the first call that needs it
};

} // namespace llmrt::nccl
