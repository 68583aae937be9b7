// SPDX-License-Identifier: Apache-2.0
// The threads meet on the host (over `local`, with its time limits and its
// errors), show each other addresses and events, and enqueue: waits for the
// others' events, copies from their memory, sums. A wait names a record that
// has been enqueued before, so on the device nothing can wait in a circle.
//
// After an abort another rank's stream may still read this rank's memory:
// whoever frees it waits for the GPU, as cudaFree does.
#include "runtime/comm/cuda/SharedGpuCommunicator.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_format.h"

#include <algorithm>

namespace llmrt::cuda {
namespace {

CollectiveTag onHost(CollectiveTag tag) {
  tag.stream = nullptr;
  return tag;
}

/// Elements that one rank sums in an all-reduce: whole lines of memory.
int64_t segmentElements(int64_t numElements, int numRanks) {
  constexpr int64_t kGrain = 64;
  int64_t numGrains = (numElements + kGrain - 1) / kGrain;
  return (numGrains + numRanks - 1) / numRanks * kGrain;
}

} // namespace

SharedEvents::~SharedEvents() {
  for (void* event : all_)
    cuda_.eventDestroy(cuda_.device, event);
}

absl::StatusOr<void*> SharedEvents::create() {
  void* event = nullptr;
  LLMRT_RETURN_IF_ERROR(cuda_.toStatus(cuda_.eventCreate(cuda_.device, &event),
                                       "creating an event of a group"));
  std::lock_guard<std::mutex> lock(mutex_);
  all_.push_back(event);
  return event;
}

SharedGpuCommunicator::SharedGpuCommunicator(
    Fabric& fabric, std::unique_ptr<Communicator> group,
    absl::Span<const int> worldRanks, const CudaTable& cuda,
    std::shared_ptr<SharedEvents> events)
    : fabric_(fabric), host_(std::move(group)),
      worldRanks_(worldRanks.begin(), worldRanks.end()), cuda_(cuda),
      allEvents_(std::move(events)), posts_(worldRanks.size()) {}

absl::Status SharedGpuCommunicator::record(void* event,
                                           const CollectiveTag& tag) {
  return cuda_.toStatus(cuda_.eventRecord(cuda_.device, event, tag.stream),
                        "recording an event");
}

absl::Status SharedGpuCommunicator::waitFor(void* event,
                                            const CollectiveTag& tag) {
  return cuda_.toStatus(cuda_.streamWaitEvent(cuda_.device, tag.stream, event),
                        "waiting for an event of another rank");
}

absl::Status SharedGpuCommunicator::copy(void* to, const void* from,
                                         int64_t sizeBytes,
                                         const CollectiveTag& tag) {
  if (to == from || sizeBytes == 0)
    return absl::OkStatus();
  return cuda_.toStatus(
      cuda_.copy(cuda_.device, tag.stream, to, from, sizeBytes),
      "copying from another rank");
}

absl::Status SharedGpuCommunicator::sum(void* out, int64_t offsetBytes,
                                        size_t part, int64_t numElements,
                                        DType dtype, const CollectiveTag& tag) {
  if (numElements == 0)
    return absl::OkStatus();
  absl::InlinedVector<const void*, 8> blocks;
  for (const Post& post : posts_)
    blocks.push_back(static_cast<const uint8_t*>(post.parts[part].send) +
                     offsetBytes);
  return cuda_.toStatus(cuda_.addInRankOrder(cuda_.device, tag.stream, out,
                                             blocks.data(), size(), numElements,
                                             dtype),
                        "adding over ranks");
}

// The streams of several ranks could be captured in one graph only, which the
// ranks' threads would have to begin and end together.
absl::Status SharedGpuCommunicator::prepare(const CollectiveTag& tag) {
  uint64_t capture = 0;
  LLMRT_RETURN_IF_ERROR(
      cuda_.toStatus(cuda_.captureId(cuda_.device, tag.stream, &capture),
                     "asking for the capture of a stream"));
  if (capture != 0)
    return makeError(ErrorCode::DeviceUnsupported,
                     absl::StrCat("ranks that share a GPU cannot capture ",
                                  describeCollective(tag), " in a graph"),
                     "run them without captured graphs");
  if (!sent_.empty())
    return absl::OkStatus();
  for (void*& event : events_) {
    LLMRT_ASSIGN_OR_RETURN(event, allEvents_->create());
  }
  sent_.resize(size());
  taken_.resize(size());
  for (std::vector<void*>* byPeer : {&sent_, &taken_})
    for (void*& event : *byPeer) {
      LLMRT_ASSIGN_OR_RETURN(event, allEvents_->create());
    }
  return absl::OkStatus();
}

absl::Status SharedGpuCommunicator::enter(int32_t operation,
                                          absl::Span<const BucketPart> parts,
                                          int64_t sizeBytes,
                                          const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(prepare(tag));
  LLMRT_RETURN_IF_ERROR(record(events_[Entered], tag));
  Post mine;
  mine.parts = parts.data();
  mine.sizeBytes = sizeBytes;
  mine.numParts = static_cast<int32_t>(parts.size());
  mine.operation = operation;
  std::copy(events_, events_ + kNumPhases, mine.events);
  LLMRT_RETURN_IF_ERROR(
      host_->allGather(&mine, posts_.data(), sizeof(mine), onHost(tag)));
  LLMRT_RETURN_IF_ERROR(checkPosts(tag));
  return waitForOthers(Entered, tag);
}

absl::Status SharedGpuCommunicator::meet(Phase phase,
                                         const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(record(events_[phase], tag));
  LLMRT_RETURN_IF_ERROR(host_->barrier(onHost(tag)));
  return waitForOthers(phase, tag);
}

absl::Status SharedGpuCommunicator::waitForOthers(Phase phase,
                                                  const CollectiveTag& tag) {
  for (int r = 0; r < size(); ++r)
    if (r != rank())
      LLMRT_RETURN_IF_ERROR(waitFor(posts_[r].events[phase], tag));
  return absl::OkStatus();
}

absl::Status SharedGpuCommunicator::checkPosts(const CollectiveTag& tag) {
  const Post& mine = posts_[rank()];
  for (int r = 0; r < size(); ++r) {
    const Post& other = posts_[r];
    if (other.operation == mine.operation &&
        other.sizeBytes == mine.sizeBytes && other.numParts == mine.numParts)
      continue;
    absl::Status status = makeMismatchError(
        worldRanks_[rank()], worldRanks_[r], tag,
        absl::StrFormat("%d bytes here, %d bytes of operation %d there",
                        mine.sizeBytes, other.sizeBytes, other.operation));
    fabric_.abort(status);
    return status;
  }
  return absl::OkStatus();
}

absl::Status
SharedGpuCommunicator::allGatherBucket(absl::Span<const BucketPart> parts,
                                       const CollectiveTag& tag) {
  if (!tag.stream)
    return host_->allGatherBucket(parts, tag);
  int64_t sizeBytes = 0;
  for (const BucketPart& part : parts)
    sizeBytes += part.size;
  LLMRT_RETURN_IF_ERROR(enter(AllGather, parts, sizeBytes, tag));
  for (size_t p = 0; p < parts.size(); ++p)
    for (int i = 0; i < size(); ++i) {
      int r = (rank() + i) % size();
      LLMRT_RETURN_IF_ERROR(
          copy(static_cast<uint8_t*>(parts[p].recv) + r * parts[p].size,
               posts_[r].parts[p].send, parts[p].size, tag));
    }
  return leave(tag);
}

// Each rank alone reads block rank() of all, so its sum may overwrite its own.
absl::Status SharedGpuCommunicator::reduceScatterBucket(
    absl::Span<const BucketPart> parts, DType dtype, const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  if (!tag.stream)
    return host_->reduceScatterBucket(parts, dtype, tag);
  int64_t sizeBytes = 0;
  for (const BucketPart& part : parts)
    sizeBytes += part.size * dtypeBytes(dtype);
  LLMRT_RETURN_IF_ERROR(enter(ReduceScatter, parts, sizeBytes, tag));
  for (size_t p = 0; p < parts.size(); ++p)
    LLMRT_RETURN_IF_ERROR(sum(parts[p].recv,
                              rank() * parts[p].size * dtypeBytes(dtype), p,
                              parts[p].size, dtype, tag));
  return leave(tag);
}

absl::Status SharedGpuCommunicator::allReduce(void* data, int64_t numElements,
                                              DType dtype,
                                              const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  if (!tag.stream)
    return host_->allReduce(data, numElements, dtype, tag);
  int64_t elementBytes = dtypeBytes(dtype);
  BucketPart whole = {data, data, numElements};
  LLMRT_RETURN_IF_ERROR(
      enter(AllReduce, {&whole, 1}, numElements * elementBytes, tag));
  // This rank alone reads its segment of every buffer; the sum overwrites it in
  // this rank's buffer, where the others fetch it.
  int64_t step = segmentElements(numElements, size());
  auto begin = [&](int r) { return std::min(numElements, r * step); };
  auto* bytes = static_cast<uint8_t*>(data);
  int64_t own = begin(rank());
  LLMRT_RETURN_IF_ERROR(sum(bytes + own * elementBytes, own * elementBytes, 0,
                            begin(rank() + 1) - own, dtype, tag));
  LLMRT_RETURN_IF_ERROR(meet(Summed, tag));
  for (int i = 1; i < size(); ++i) {
    int r = (rank() + i) % size();
    int64_t offset = begin(r) * elementBytes;
    LLMRT_RETURN_IF_ERROR(
        copy(bytes + offset,
             static_cast<const uint8_t*>(posts_[r].parts[0].send) + offset,
             (begin(r + 1) - begin(r)) * elementBytes, tag));
  }
  return leave(tag);
}

absl::Status SharedGpuCommunicator::allToAll(const void* send, void* recv,
                                             int64_t sizeBytes,
                                             const CollectiveTag& tag) {
  if (!tag.stream)
    return host_->allToAll(send, recv, sizeBytes, tag);
  BucketPart whole = {send, recv, sizeBytes};
  LLMRT_RETURN_IF_ERROR(enter(AllToAll, {&whole, 1}, sizeBytes, tag));
  for (int i = 0; i < size(); ++i) {
    int r = (rank() + i) % size();
    LLMRT_RETURN_IF_ERROR(
        copy(static_cast<uint8_t*>(recv) + r * sizeBytes,
             static_cast<const uint8_t*>(posts_[r].parts[0].send) +
                 rank() * sizeBytes,
             sizeBytes, tag));
  }
  return leave(tag);
}

absl::Status SharedGpuCommunicator::broadcast(void* data, int64_t sizeBytes,
                                              int root,
                                              const CollectiveTag& tag) {
  if (root < 0 || root >= size())
    return checkPeer(size(), rank(), size(), tag);
  if (!tag.stream)
    return host_->broadcast(data, sizeBytes, root, tag);
  BucketPart whole = {data, data, sizeBytes};
  LLMRT_RETURN_IF_ERROR(
      enter(Broadcast + (root << 8), {&whole, 1}, sizeBytes, tag));
  LLMRT_RETURN_IF_ERROR(copy(data, posts_[root].parts[0].send, sizeBytes, tag));
  return leave(tag);
}

absl::Status SharedGpuCommunicator::barrier(const CollectiveTag& tag) {
  if (!tag.stream)
    return host_->barrier(tag);
  LLMRT_RETURN_IF_ERROR(enter(Barrier, {}, 0, tag));
  return leave(tag);
}

// Two peers meet twice: for the data, and for the word that it is taken.
absl::Status SharedGpuCommunicator::exchange(const void* send,
                                             int64_t sendBytes, int sendPeer,
                                             void* recv, int64_t recvBytes,
                                             int recvPeer,
                                             const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkPeer(sendPeer, rank(), size(), tag));
  LLMRT_RETURN_IF_ERROR(checkPeer(recvPeer, rank(), size(), tag));
  if (!tag.stream)
    return host_->exchange(send, sendBytes, sendPeer, recv, recvBytes, recvPeer,
                           tag);
  LLMRT_RETURN_IF_ERROR(prepare(tag));
  Parcel mine, theirs;
  if (sendPeer >= 0) {
    mine = {send, sendBytes, sent_[sendPeer]};
    LLMRT_RETURN_IF_ERROR(record(mine.event, tag));
  }
  LLMRT_RETURN_IF_ERROR(host_->exchange(&mine, sizeof(mine), sendPeer, &theirs,
                                        sizeof(theirs), recvPeer, onHost(tag)));
  void* taken = nullptr;
  if (recvPeer >= 0) {
    if (theirs.sizeBytes != recvBytes) {
      absl::Status status = makeMismatchError(
          worldRanks_[rank()], worldRanks_[recvPeer], tag,
          absl::StrFormat("%d bytes expected here, %d bytes sent there",
                          recvBytes, theirs.sizeBytes));
      fabric_.abort(status);
      return status;
    }
    LLMRT_RETURN_IF_ERROR(waitFor(theirs.event, tag));
    LLMRT_RETURN_IF_ERROR(copy(recv, theirs.data, recvBytes, tag));
    taken = taken_[recvPeer];
    LLMRT_RETURN_IF_ERROR(record(taken, tag));
  }
  void* theirTaken = nullptr;
  LLMRT_RETURN_IF_ERROR(host_->exchange(&taken, sizeof(taken), recvPeer,
                                        &theirTaken, sizeof(theirTaken),
                                        sendPeer, onHost(tag)));
  return sendPeer >= 0 ? waitFor(theirTaken, tag) : absl::OkStatus();
}

} // namespace llmrt::cuda
