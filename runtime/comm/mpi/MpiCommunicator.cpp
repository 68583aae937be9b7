// SPDX-License-Identifier: Apache-2.0
// MPI moves bytes between pairs; sums are our own, in rank order. MPI's own
// reductions choose their order by message size and library version. Every
// collective sends directly to each member, so a missing message names the rank
// that is missing.
#include "runtime/comm/mpi/MpiCommunicator.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"
#include "runtime/comm/RankOrderSum.h"

#include "absl/container/inlined_vector.h"

#include <algorithm>
#include <cstring>

namespace llmrt::mpi {
namespace {

/// Of one communicator, for sums.
constexpr int64_t kReceiveBytes = 4 << 20;
/// Up to here every rank sends all it has to every rank: one trip instead of
/// two.
constexpr int64_t kSmallBytes = 32768;
/// Parts of a bucket, whose transfers are posted together (VerifyPrograms).
constexpr int64_t kMostParts = 16;

} // namespace

MpiCommunicator::MpiCommunicator(MpiJob* job, std::vector<int> worldRanks,
                                 int rank, double timeoutSeconds)
    : job_(job), worldRanks_(std::move(worldRanks)), rank_(rank),
      tag_(job->tagOfGroup(worldRanks_)), timeoutSeconds_(timeoutSeconds) {}

int64_t MpiCommunicator::reservedBytes() const {
  int64_t requestBytes = sizeof(MPI_Request) + sizeof(MPI_Status) +
                         2 * static_cast<int64_t>(sizeof(int));
  return std::max(kReceiveBytes, size() * kSmallBytes) +
         4 * kMostParts * size() * requestBytes;
}

absl::Status MpiCommunicator::start() {
  transfers_.clear();
  return job_->checkAbort();
}

void MpiCommunicator::receive(void* data, int64_t sizeBytes, int peer) {
  job_->postReceive(transfers_, data, sizeBytes, worldRanks_[peer], tag_);
}

void MpiCommunicator::send(const void* data, int64_t sizeBytes, int peer) {
  job_->postSend(transfers_, data, sizeBytes, worldRanks_[peer], tag_);
}

int64_t MpiCommunicator::Layout::begin(int rank) const {
  return std::min(numElements, rank * runElements);
}

int64_t MpiCommunicator::Layout::length(int rank) const {
  return begin(rank + 1) - begin(rank);
}

// Messages between two ranks keep their order, so parts need no tags.
absl::Status
MpiCommunicator::allGatherBucket(absl::Span<const BucketPart> parts,
                                 const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(start());
  for (const BucketPart& part : parts)
    for (int i = 1; i < size(); ++i) {
      int from = (rank_ + size() - i) % size();
      receive(static_cast<uint8_t*>(part.recv) + from * part.size, part.size,
              from);
    }
  for (const BucketPart& part : parts) {
    for (int i = 1; i < size(); ++i)
      send(part.send, part.size, (rank_ + i) % size());
    uint8_t* own = static_cast<uint8_t*>(part.recv) + rank_ * part.size;
    if (own != part.send && part.size > 0)
      std::memcpy(own, part.send, part.size);
  }
  return complete(tag);
}

// One part after the other: each is already cut into rounds that overlap.
absl::Status
MpiCommunicator::reduceScatterBucket(absl::Span<const BucketPart> parts,
                                     DType dtype, const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  for (const BucketPart& part : parts) {
    Layout layout = {part.size * size(), part.size};
    LLMRT_RETURN_IF_ERROR(reduceRuns(part.send, part.recv, layout, dtype, tag));
  }
  return absl::OkStatus();
}

absl::Status MpiCommunicator::allReduce(void* data, int64_t numElements,
                                        DType dtype, const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  int64_t elementBytes = dtypeBytes(dtype);
  if (numElements * elementBytes <= kSmallBytes)
    return reduceSmall(data, numElements, dtype, tag);
  Layout layout = {numElements, (numElements + size() - 1) / size()};
  auto* bytes = static_cast<uint8_t*>(data);
  uint8_t* own = bytes + layout.begin(rank_) * elementBytes;
  LLMRT_RETURN_IF_ERROR(reduceRuns(data, own, layout, dtype, tag));
  LLMRT_RETURN_IF_ERROR(start());
  for (int i = 1; i < size(); ++i) {
    int from = (rank_ + size() - i) % size();
    receive(bytes + layout.begin(from) * elementBytes,
            layout.length(from) * elementBytes, from);
  }
  for (int i = 1; i < size(); ++i)
    send(own, layout.length(rank_) * elementBytes, (rank_ + i) % size());
  return complete(tag);
}

absl::Status MpiCommunicator::reduceSmall(void* data, int64_t numElements,
                                          DType dtype,
                                          const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(start());
  int64_t sizeBytes = numElements * dtypeBytes(dtype);
  if (static_cast<int64_t>(received_.size()) < size() * sizeBytes)
    received_.resize(size() * sizeBytes);
  absl::InlinedVector<const void*, 8> blocks(size());
  for (int r = 0; r < size(); ++r) {
    uint8_t* block = received_.data() + r * sizeBytes;
    blocks[r] = r == rank_ ? data : block;
    if (r != rank_)
      receive(block, sizeBytes, r);
  }
  for (int i = 1; i < size(); ++i)
    send(data, sizeBytes, (rank_ + i) % size());
  LLMRT_RETURN_IF_ERROR(complete(tag));
  addInRankOrder(data, blocks, numElements, dtype);
  return absl::OkStatus();
}

absl::Status MpiCommunicator::reduceRuns(const void* sendData, void* recvData,
                                         const Layout& layout, DType dtype,
                                         const CollectiveTag& tag) {
  int64_t elementBytes = dtypeBytes(dtype);
  int64_t chunkElements =
      std::max<int64_t>(1, kReceiveBytes / 2 / size() / elementBytes);
  chunkElements = std::clamp<int64_t>(layout.runElements, 1, chunkElements);
  int64_t halfBytes = size() * chunkElements * elementBytes;
  if (static_cast<int64_t>(received_.size()) < 2 * halfBytes)
    received_.resize(2 * halfBytes);
  const auto* bytes = static_cast<const uint8_t*>(sendData);
  auto chunkOf = [&](int rank, int64_t begin) {
    return std::clamp<int64_t>(layout.length(rank) - begin, 0, chunkElements);
  };
  auto post = [&](int64_t begin) {
    uint8_t* half = received_.data() + (begin / chunkElements % 2) * halfBytes;
    for (int r = 0; r < size(); ++r) {
      if (r != rank_)
        receive(half + r * chunkElements * elementBytes,
                chunkOf(rank_, begin) * elementBytes, r);
    }
    for (int i = 1; i < size(); ++i) {
      int r = (rank_ + i) % size();
      send(bytes + (layout.begin(r) + begin) * elementBytes,
           chunkOf(r, begin) * elementBytes, r);
    }
  };
  LLMRT_RETURN_IF_ERROR(start());
  // A rank with a shorter run takes part in every round, with empty messages.
  post(0);
  for (int64_t begin = 0; begin < std::max<int64_t>(1, layout.runElements);
       begin += chunkElements) {
    LLMRT_RETURN_IF_ERROR(complete(tag));
    transfers_.clear();
    if (begin + chunkElements < layout.runElements)
      post(begin + chunkElements);
    const uint8_t* half =
        received_.data() + (begin / chunkElements % 2) * halfBytes;
    absl::InlinedVector<const void*, 8> blocks(size());
    for (int r = 0; r < size(); ++r)
      blocks[r] = half + r * chunkElements * elementBytes;
    blocks[rank_] = bytes + (layout.begin(rank_) + begin) * elementBytes;
    addInRankOrder(static_cast<uint8_t*>(recvData) + begin * elementBytes,
                   blocks, chunkOf(rank_, begin), dtype);
  }
  return absl::OkStatus();
}

absl::Status MpiCommunicator::allToAll(const void* sendData, void* recvData,
                                       int64_t sizeBytes,
                                       const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(start());
  const auto* out = static_cast<const uint8_t*>(sendData);
  auto* in = static_cast<uint8_t*>(recvData);
  for (int i = 1; i < size(); ++i) {
    int from = (rank_ + size() - i) % size();
    receive(in + from * sizeBytes, sizeBytes, from);
  }
  for (int i = 1; i < size(); ++i) {
    int to = (rank_ + i) % size();
    send(out + to * sizeBytes, sizeBytes, to);
  }
  if (sizeBytes > 0)
    std::memcpy(in + rank_ * sizeBytes, out + rank_ * sizeBytes, sizeBytes);
  return complete(tag);
}

absl::Status MpiCommunicator::broadcast(void* data, int64_t sizeBytes, int root,
                                        const CollectiveTag& tag) {
  if (root < 0 || root >= size())
    return checkPeer(size(), rank_, size(), tag);
  LLMRT_RETURN_IF_ERROR(start());
  if (rank_ != root) {
    receive(data, sizeBytes, root);
    return complete(tag);
  }
  for (int i = 1; i < size(); ++i)
    send(data, sizeBytes, (rank_ + i) % size());
  return complete(tag);
}

absl::Status MpiCommunicator::exchange(const void* sendData, int64_t sendBytes,
                                       int sendPeer, void* recvData,
                                       int64_t recvBytes, int recvPeer,
                                       const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkPeer(sendPeer, rank_, size(), tag));
  LLMRT_RETURN_IF_ERROR(checkPeer(recvPeer, rank_, size(), tag));
  LLMRT_RETURN_IF_ERROR(start());
  if (recvPeer >= 0)
    receive(recvData, recvBytes, recvPeer);
  if (sendPeer >= 0)
    send(sendData, sendBytes, sendPeer);
  return complete(tag);
}

absl::Status MpiCommunicator::barrier(const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(start());
  for (int i = 1; i < size(); ++i)
    receive(nullptr, 0, (rank_ + size() - i) % size());
  for (int i = 1; i < size(); ++i)
    send(nullptr, 0, (rank_ + i) % size());
  return complete(tag);
}

} // namespace llmrt::mpi
