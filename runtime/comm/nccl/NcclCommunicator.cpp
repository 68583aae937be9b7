// SPDX-License-Identifier: Apache-2.0
// Calls on a stream go to NCCL as they are. Calls on host memory are control
// records and the like: they pass through memory of the device, so that they
// need no second transport.
#include "runtime/comm/nccl/NcclCommunicator.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"

#include "absl/container/inlined_vector.h"

#include <algorithm>

namespace llmrt::nccl {
namespace {

/// Kept for calls on host memory up to this size; larger ones allocate.
constexpr int64_t kStagingBytes = 65536;
constexpr int64_t kAlignBytes = 256;

int64_t alignUp(int64_t sizeBytes) {
  return (sizeBytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
}

DataType dataTypeOf(DType dtype) {
  return dtype == DType::BF16 ? kBfloat16 : kFloat32;
}

/// The first failure of several calls; one that is still under way is none.
void keepFirst(Result& first, Result result) {
  if (first == kSuccess || (first == kInProgress && result != kSuccess))
    first = result;
}

} // namespace

NcclCommunicator::NcclCommunicator(std::shared_ptr<NcclRank> rank,
                                   std::shared_ptr<Group> group)
    : owner_(std::move(rank)), group_(std::move(group)) {}

NcclCommunicator::~NcclCommunicator() {
  owner_->closeGroup(*group_);
  if (staging_)
    owner_->cuda().freeDevice(owner_->cuda().device, staging_);
}

int64_t NcclCommunicator::reservedBytes() const {
  return ProgressMarks::reservedBytes() +
         (group_->peers ? PeerGroup::reservedBytes() : 0) +
         (staging_ ? kStagingBytes : 0);
}

absl::Status NcclCommunicator::allocate(int64_t sizeBytes, uint8_t*& memory) {
  const CudaTable& cuda = owner_->cuda();
  void* allocated = nullptr;
  LLMRT_RETURN_IF_ERROR(
      cuda.toStatus(cuda.allocateDevice(cuda.device, &allocated, sizeBytes),
                    "allocating memory for a call on host memory"));
  memory = static_cast<uint8_t*>(allocated);
  return absl::OkStatus();
}

absl::Status NcclCommunicator::run(const CallSite& site,
                                   absl::Span<Operand> operands,
                                   NcclRank::Work work) {
  LLMRT_RETURN_IF_ERROR(owner_->abortStatus());
  int64_t sizeBytes = 0;
  for (Operand& operand : operands) {
    bool isDirect = site.tag.stream && (operand.input || operand.output);
    if (isDirect)
      operand.device = static_cast<uint8_t*>(
          operand.output ? operand.output : const_cast<void*>(operand.input));
    else
      sizeBytes += alignUp(operand.sizeBytes);
  }
  if (sizeBytes > 0 && !staging_)
    LLMRT_RETURN_IF_ERROR(allocate(kStagingBytes, staging_));
  uint8_t* memory = staging_;
  if (sizeBytes > kStagingBytes)
    LLMRT_RETURN_IF_ERROR(allocate(sizeBytes, memory));
  int64_t offset = 0;
  for (Operand& operand : operands) {
    if (operand.device)
      continue;
    operand.device = memory + offset;
    offset += alignUp(operand.sizeBytes);
  }
  absl::Status status =
      site.tag.stream ? owner_->issue(*group_, site, site.tag.stream, work)
                      : runOnHost(site, operands, work);
  if (memory != staging_)
    owner_->cuda().freeDevice(owner_->cuda().device, memory);
  return status;
}

absl::Status NcclCommunicator::runOnHost(const CallSite& site,
                                         absl::Span<Operand> operands,
                                         NcclRank::Work work) {
  const CudaTable& cuda = owner_->cuda();
  void* stream = owner_->ownStream();
  auto copy = [&](void* to, const void* from, int64_t sizeBytes) {
    return cuda.toStatus(cuda.copy(cuda.device, stream, to, from, sizeBytes),
                         "copying operands on the host");
  };
  for (const Operand& operand : operands)
    if (operand.input && operand.sizeBytes > 0)
      LLMRT_RETURN_IF_ERROR(
          copy(operand.device, operand.input, operand.sizeBytes));
  absl::Status status = owner_->issue(*group_, site, stream, work);
  // Also after a failure: nothing may touch the operands any more.
  absl::Status completed = owner_->complete(stream);
  LLMRT_RETURN_IF_ERROR(status);
  LLMRT_RETURN_IF_ERROR(completed);
  for (const Operand& operand : operands)
    if (operand.output && operand.sizeBytes > 0)
      LLMRT_RETURN_IF_ERROR(
          copy(operand.output, operand.device, operand.sizeBytes));
  return owner_->complete(stream);
}

absl::Status
NcclCommunicator::allGatherBucket(absl::Span<const BucketPart> parts,
                                  const CollectiveTag& tag) {
  absl::InlinedVector<Operand, 8> operands;
  CallSite site = {tag, "all_gather"};
  for (const BucketPart& part : parts) {
    operands.push_back({part.send, nullptr, part.size});
    operands.push_back({nullptr, part.recv, part.size * size()});
    site.sizeBytes += part.size;
  }
  return run(site, absl::MakeSpan(operands),
             [&](CommHandle comm, void* stream) {
               Result result = kSuccess;
               for (size_t p = 0; p < parts.size(); ++p)
                 if (parts[p].size > 0)
                   keepFirst(result, owner_->table().allGather(
                                         operands[2 * p].device,
                                         operands[2 * p + 1].device,
                                         parts[p].size, kUint8, comm, stream));
               return result;
             });
}

absl::Status
NcclCommunicator::reduceScatterBucket(absl::Span<const BucketPart> parts,
                                      DType dtype, const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  absl::InlinedVector<Operand, 8> operands;
  CallSite site = {tag, dtype == DType::F32 ? "reduce_scatter f32"
                                            : "reduce_scatter bf16"};
  for (const BucketPart& part : parts) {
    int64_t blockBytes = part.size * dtypeBytes(dtype);
    operands.push_back({part.send, nullptr, blockBytes * size()});
    operands.push_back({nullptr, part.recv, blockBytes});
    site.sizeBytes += blockBytes;
  }
  return run(
      site, absl::MakeSpan(operands), [&](CommHandle comm, void* stream) {
        Result result = kSuccess;
        for (size_t p = 0; p < parts.size(); ++p)
          if (parts[p].size > 0)
            keepFirst(result, owner_->table().reduceScatter(
                                  operands[2 * p].device,
                                  operands[2 * p + 1].device, parts[p].size,
                                  dataTypeOf(dtype), kSum, comm, stream));
        return result;
      });
}

absl::Status NcclCommunicator::allReduce(void* data, int64_t numElements,
                                         DType dtype,
                                         const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkReducible(dtype, tag));
  int64_t sizeBytes = numElements * dtypeBytes(dtype);
  CallSite site = {tag,
                   dtype == DType::F32 ? "all_reduce f32" : "all_reduce bf16",
                   sizeBytes};
  if (tag.stream && group_->peers && PeerGroup::takes(numElements, dtype))
    return owner_->issueSum(*group_, site, data, numElements, dtype);
  Operand operand = {data, data, sizeBytes};
  return run(site, {&operand, 1}, [&](CommHandle comm, void* stream) {
    if (numElements == 0)
      return kSuccess;
    return owner_->table().allReduce(operand.device, operand.device,
                                     numElements, dataTypeOf(dtype), kSum, comm,
                                     stream);
  });
}

absl::Status NcclCommunicator::allToAll(const void* send, void* recv,
                                        int64_t sizeBytes,
                                        const CollectiveTag& tag) {
  Operand operands[] = {{send, nullptr, sizeBytes * size()},
                        {nullptr, recv, sizeBytes * size()}};
  CallSite site = {tag, "all_to_all", sizeBytes};
  return run(site, absl::MakeSpan(operands),
             [&](CommHandle comm, void* stream) {
               Result result = kSuccess;
               for (int peer = 0; peer < size() && sizeBytes > 0; ++peer) {
                 keepFirst(result, owner_->table().send(
                                       operands[0].device + peer * sizeBytes,
                                       sizeBytes, kUint8, peer, comm, stream));
                 keepFirst(result, owner_->table().recv(
                                       operands[1].device + peer * sizeBytes,
                                       sizeBytes, kUint8, peer, comm, stream));
               }
               return result;
             });
}

absl::Status NcclCommunicator::broadcast(void* data, int64_t sizeBytes,
                                         int root, const CollectiveTag& tag) {
  if (root < 0 || root >= size())
    return checkPeer(size(), rank(), size(), tag);
  bool isRoot = rank() == root;
  Operand operand = {isRoot ? data : nullptr, isRoot ? nullptr : data,
                     sizeBytes};
  CallSite site = {tag, "broadcast", sizeBytes};
  return run(site, {&operand, 1}, [&](CommHandle comm, void* stream) {
    if (sizeBytes == 0)
      return kSuccess;
    return owner_->table().broadcast(operand.device, operand.device, sizeBytes,
                                     kUint8, root, comm, stream);
  });
}

absl::Status NcclCommunicator::exchange(const void* send, int64_t sendBytes,
                                        int sendPeer, void* recv,
                                        int64_t recvBytes, int recvPeer,
                                        const CollectiveTag& tag) {
  LLMRT_RETURN_IF_ERROR(checkPeer(sendPeer, rank(), size(), tag));
  LLMRT_RETURN_IF_ERROR(checkPeer(recvPeer, rank(), size(), tag));
  CallSite site = {tag, "exchange"};
  site.isExchange = true;
  absl::InlinedVector<Operand, 2> operands;
  if (sendPeer >= 0) {
    operands.push_back({send, nullptr, sendBytes});
    site.sendPeer = group_->worldRanks[sendPeer];
    site.sendBytes = sendBytes;
  }
  if (recvPeer >= 0) {
    operands.push_back({nullptr, recv, recvBytes});
    site.recvPeer = group_->worldRanks[recvPeer];
    site.recvBytes = recvBytes;
  }
  if (operands.empty())
    return owner_->abortStatus();
  return run(
      site, absl::MakeSpan(operands), [&](CommHandle comm, void* stream) {
        Result result = kSuccess;
        if (sendPeer >= 0 && sendBytes > 0)
          keepFirst(result,
                    owner_->table().send(operands.front().device, sendBytes,
                                         kUint8, sendPeer, comm, stream));
        if (recvPeer >= 0 && recvBytes > 0)
          keepFirst(result,
                    owner_->table().recv(operands.back().device, recvBytes,
                                         kUint8, recvPeer, comm, stream));
        return result;
      });
}

// Every rank's result holds a byte of every other.
absl::Status NcclCommunicator::barrier(const CollectiveTag& tag) {
  Operand scratch = {nullptr, nullptr, size()};
  CallSite site = {tag, "barrier", 1};
  return run(site, {&scratch, 1}, [&](CommHandle comm, void* stream) {
    return owner_->table().allGather(scratch.device + rank(), scratch.device, 1,
                                     kUint8, comm, stream);
  });
}

} // namespace llmrt::nccl
