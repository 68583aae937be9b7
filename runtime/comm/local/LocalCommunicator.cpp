// SPDX-License-Identifier: Apache-2.0
// Small messages: each rank copies its data to staging memory, the group meets
// once, and every rank does the whole sum itself. Staging memory is double: a
// rank that writes phase p + 2 has met the others in p + 1, which they entered
// after they had read p. Large messages: ranks read each other's buffers
// directly, and meet again before they may change.
#include "runtime/comm/local/LocalCommunicator.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"
#include "runtime/comm/RankOrderSum.h"

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_format.h"

#include <cassert>
#include <cstring>
#include <thread>

namespace llmrt::local {
namespace {

void copyBytes(void* to, const void* from, int64_t sizeBytes) {
  if (to != from && sizeBytes > 0)
    std::memcpy(to, from, sizeBytes);
}

/// The run of elements that `rank` reduces: runs differ by one cache line at
/// most.
struct Segment {
  int64_t begin;
  int64_t length;
};

Segment segmentOf(int rank, int numRanks, int64_t numElements) {
  constexpr int64_t kGrain = 64;
  int64_t numGrains = (numElements + kGrain - 1) / kGrain;
  int64_t begin = std::min(numElements, numGrains * rank / numRanks * kGrain);
  int64_t end =
      std::min(numElements, numGrains * (rank + 1) / numRanks * kGrain);
  return {begin, end - begin};
}

} // namespace

LocalCommunicator::LocalCommunicator(std::shared_ptr<World> world,
                                     std::shared_ptr<Group> group, int rank)
    : world_(std::move(world)), group_(std::move(group)), rank_(rank),
      peers_(group_->size()) {}

bool LocalCommunicator::isStaged() const {
  return group_->post(shownPhase_, rank_).sizeBytes <= Group::kStagedBytes;
}

absl::Status LocalCommunicator::meet(const CollectiveTag& tag) {
  if (world_->isAborted())
    return world_->abortStatus();
  uint32_t target = ++phase_ * static_cast<uint32_t>(size());
  group_->rankStates[rank_].numArrived.store(phase_, std::memory_order_release);
  group_->numArrived.advance(target);
  return world_->waitFor(group_->numArrived, target, worldRank(), tag, [&] {
    for (int r = 0; r < size(); ++r) {
      uint32_t arrived =
          group_->rankStates[r].numArrived.load(std::memory_order_acquire);
      if (static_cast<int32_t>(arrived - phase_) < 0)
        return group_->worldRanks[r];
    }
    return -1;
  });
}

absl::Status LocalCommunicator::enter(Operation operation, const void* data,
                                      int64_t sizeBytes,
                                      const CollectiveTag& tag) {
  assert(sizeBytes >= 0 && "negative message size");
  shownPhase_ = phase_;
  group_->post(shownPhase_, rank_) = {data, sizeBytes, operation};
  if (isStaged() && data && sizeBytes > 0)
    std::memcpy(group_->staging(shownPhase_, rank_), data, sizeBytes);
  return meetShown(tag);
}

// A rank that reads a bucket directly finds its parts where the owner of the
// bucket has them, which stays in its call until leave().
absl::Status LocalCommunicator::enterBucket(Operation operation,
                                            absl::Span<const BucketPart> parts,
                                            int numBlocks, int64_t unitBytes,
                                            const CollectiveTag& tag) {
  int64_t sizeBytes = 0;
  for (const BucketPart& part : parts)
    sizeBytes += numBlocks * part.size * unitBytes;
  shownPhase_ = phase_;
  auto numParts = static_cast<uint32_t>(parts.size());
  group_->post(shownPhase_, rank_) = {parts.data(), sizeBytes,
                                      operation + (numParts << 8)};
  if (isStaged()) {
    uint8_t* to = group_->staging(shownPhase_, rank_);
    for (const BucketPart& part : parts) {
      int64_t partBytes = numBlocks * part.size * unitBytes;
      copyBytes(to, part.send, partBytes);
      to += partBytes;
    }
  }
  return meetShown(tag);
}

absl::Status LocalCommunicator::meetShown(const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(meet(tag));
  LLMRT_RETURN_IF_ERROR(checkPosts(tag));
  return isStaged() ? absl::OkStatus() : startReading();
}

const uint8_t* LocalCommunicator::shown(int rank) const {
  const Post& post = group_->post(shownPhase_, rank);
  if (rank != rank_ && post.sizeBytes <= Group::kStagedBytes)
    return group_->staging(shownPhase_, rank);
  return static_cast<const uint8_t*>(post.data);
}

const uint8_t* LocalCommunicator::shownPart(int rank, size_t i,
                                            int64_t offset) const {
  const Post& post = group_->post(shownPhase_, rank);
  if (rank != rank_ && post.sizeBytes <= Group::kStagedBytes)
    return group_->staging(shownPhase_, rank) + offset;
  return static_cast<const uint8_t*>(
      static_cast<const BucketPart*>(post.data)[i].send);
}

absl::Status LocalCommunicator::leave(const CollectiveTag& tag) {
  if (isStaged())
    return absl::OkStatus();
  stopReading();
  return waitForReaders(meet(tag));
}

absl::Status LocalCommunicator::checkPosts(const CollectiveTag& tag) const {
  const Post& mine = group_->post(shownPhase_, rank_);
  for (int r = 0; r < size(); ++r) {
    const Post& other = group_->post(shownPhase_, r);
    if (other.operation == mine.operation && other.sizeBytes == mine.sizeBytes)
      continue;
    absl::Status status = makeMismatchError(
        worldRank(), group_->worldRanks[r], tag,
        absl::StrFormat("%d bytes here, %d bytes of operation %d there",
                        mine.sizeBytes, other.sizeBytes, other.operation));
    world_->abort(worldRank(), status);
    return status;
  }
  return absl::OkStatus();
}

absl::Status LocalCommunicator::startReading() {
  std::atomic<bool>& isReading = group_->rankStates[rank_].isReading;
  isReading.store(true, std::memory_order_seq_cst);
  if (!world_->isAborted())
    return absl::OkStatus();
  isReading.store(false, std::memory_order_release);
  return waitForReaders(world_->abortStatus());
}

void LocalCommunicator::stopReading() {
  group_->rankStates[rank_].isReading.store(false, std::memory_order_release);
}

absl::Status LocalCommunicator::waitForReaders(absl::Status status) const {
  if (status.ok())
    return status;
  for (const Group::RankState& state : group_->rankStates) {
    while (state.isReading.load(std::memory_order_seq_cst))
      std::this_thread::yield();
  }
  return status;
}

absl::Status
LocalCommunicator::allGatherBucket(absl::Span<const BucketPart> parts,
                                   const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(enterBucket(AllGather, parts, 1, 1, tag));
  int64_t offset = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    auto* blocks = static_cast<uint8_t*>(parts[p].recv);
    int64_t sizeBytes = parts[p].size;
    // Each rank starts with its right neighbour, so that they read different
    // buffers.
    for (int i = 0; i < size(); ++i) {
      int r = (rank_ + i) % size();
      copyBytes(blocks + r * sizeBytes, shownPart(r, p, offset), sizeBytes);
    }
    offset += sizeBytes;
  }
  world_->crossLink((size() - 1) * offset);
  return leave(tag);
}

absl::Status
LocalCommunicator::reduceScatterBucket(absl::Span<const BucketPart> parts,
                                       DType dtype, const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  int64_t elementBytes = dtypeBytes(dtype);
  LLMRT_RETURN_IF_ERROR(
      enterBucket(ReduceScatter, parts, size(), elementBytes, tag));
  int64_t offset = 0;
  absl::InlinedVector<const void*, 8> blocks(size());
  for (size_t p = 0; p < parts.size(); ++p) {
    int64_t blockBytes = parts[p].size * elementBytes;
    for (int r = 0; r < size(); ++r)
      blocks[r] = shownPart(r, p, offset) + rank_ * blockBytes;
    addInRankOrder(parts[p].recv, blocks, parts[p].size, dtype);
    offset += size() * blockBytes;
  }
  world_->crossLink(offset / size() * (size() - 1));
  return leave(tag);
}

absl::Status LocalCommunicator::allReduce(void* data, int64_t numElements,
                                          DType dtype,
                                          const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  int64_t elementBytes = dtypeBytes(dtype);
  int64_t sizeBytes = numElements * elementBytes;
  LLMRT_RETURN_IF_ERROR(enter(AllReduce, data, sizeBytes, tag));
  absl::InlinedVector<const void*, 8> blocks(size());
  if (isStaged()) {
    for (int r = 0; r < size(); ++r)
      blocks[r] = shown(r);
    addInRankOrder(data, blocks, numElements, dtype);
    world_->crossLink((size() - 1) * sizeBytes);
    return absl::OkStatus();
  }
  // This rank alone reads its own segment of every buffer, so the sum may
  // overwrite it in this rank's buffer, where the others fetch it.
  auto* bytes = static_cast<uint8_t*>(data);
  Segment own = segmentOf(rank_, size(), numElements);
  for (int r = 0; r < size(); ++r)
    blocks[r] = shown(r) + own.begin * elementBytes;
  addInRankOrder(bytes + own.begin * elementBytes, blocks, own.length, dtype);
  stopReading();
  LLMRT_RETURN_IF_ERROR(waitForReaders(meet(tag)));
  LLMRT_RETURN_IF_ERROR(startReading());
  for (int i = 1; i < size(); ++i) {
    int r = (rank_ + i) % size();
    Segment segment = segmentOf(r, size(), numElements);
    int64_t offset = segment.begin * elementBytes;
    // shown() names the phase of enter(), whose posts live until leave().
    copyBytes(bytes + offset, shown(r) + offset, segment.length * elementBytes);
  }
  world_->crossLink(2 * (size() - 1) * sizeBytes / size());
  return leave(tag);
}

absl::Status LocalCommunicator::allToAll(const void* send, void* recv,
                                         int64_t sizeBytes,
                                         const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(enter(AllToAll, send, size() * sizeBytes, tag));
  auto* blocks = static_cast<uint8_t*>(recv);
  for (int i = 0; i < size(); ++i) {
    int r = (rank_ + i) % size();
    copyBytes(blocks + r * sizeBytes, shown(r) + rank_ * sizeBytes, sizeBytes);
  }
  world_->crossLink((size() - 1) * sizeBytes);
  return leave(tag);
}

absl::Status LocalCommunicator::broadcast(void* data, int64_t sizeBytes,
                                          int root, const CollectiveTag& tag) {
  if (root < 0 || root >= size())
    return checkPeer(size(), rank_, size(), tag);
  // Only the root's data is shown; the others' size is compared with it.
  const void* shownData = rank_ == root ? data : nullptr;
  LLMRT_RETURN_IF_ERROR(
      enter(Operation(Broadcast + (root << 8)), shownData, sizeBytes, tag));
  if (rank_ != root)
    copyBytes(data, shown(root), sizeBytes);
  world_->crossLink(sizeBytes);
  return leave(tag);
}

absl::Status LocalCommunicator::exchange(const void* send, int64_t sendBytes,
                                         int sendPeer, void* recv,
                                         int64_t recvBytes, int recvPeer,
                                         const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkPeer(sendPeer, rank_, size(), tag));
  LLMRT_RETURN_IF_ERROR(checkPeer(recvPeer, rank_, size(), tag));
  LLMRT_RETURN_IF_ERROR(world_->abortStatus());
  uint32_t sendCount = 0;
  if (sendPeer >= 0) {
    Channel& to = group_->channel(rank_, sendPeer);
    sendCount = ++peers_[sendPeer].numSent;
    to.data = send;
    to.sizeBytes = sendBytes;
    to.numPosted.advance(sendCount);
  }
  absl::Status status;
  if (recvPeer >= 0) {
    Channel& from = group_->channel(recvPeer, rank_);
    uint32_t count = ++peers_[recvPeer].numReceived;
    int peerWorldRank = group_->worldRanks[recvPeer];
    status = world_->waitFor(from.numPosted, count, worldRank(), tag,
                             [&] { return peerWorldRank; });
    if (status.ok() && from.sizeBytes != recvBytes) {
      status = makeMismatchError(
          worldRank(), peerWorldRank, tag,
          absl::StrFormat("%d bytes expected here, %d bytes sent there",
                          recvBytes, from.sizeBytes));
      world_->abort(worldRank(), status);
    }
    if (status.ok()) {
      world_->crossLink(recvBytes);
      status = startReading();
    }
    if (status.ok()) {
      copyBytes(recv, from.data, recvBytes);
      stopReading();
      from.numTaken.advance(count);
    }
  }
  if (sendPeer >= 0 && status.ok())
    status = world_->waitFor(group_->channel(rank_, sendPeer).numTaken,
                             sendCount, worldRank(), tag,
                             [&] { return group_->worldRanks[sendPeer]; });
  return sendPeer >= 0 ? waitForReaders(status) : status;
}

absl::Status LocalCommunicator::barrier(const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(enter(Barrier, nullptr, 0, tag));
  return leave(tag);
}

} // namespace llmrt::local
