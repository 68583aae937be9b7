// SPDX-License-Identifier: Apache-2.0
// Communication between ranks. A Fabric is all ranks of a run (threads of one
// process, or MPI processes); a Communicator is one group of them along some
// mesh axes. On host memory results are bit-identical on every back-end:
// reductions add in rank order, by our own algorithm. On CUDA they are
// identical from run to run.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llmrt {

/// What a collective is for: named in the error when it times out, and kept by
/// the flight recorder. The texts live as long as the plan. And where it runs.
struct CollectiveTag {
  int64_t command = -1;     // index of the command in its program
  const char* kind = "";    // "all_gather"
  const char* subject = ""; // the parameter or tensor
  const char* pass = "";    // the pass that put it there
  /// Null: the buffers are host memory, and the call returns when its result is
  /// complete. Else a stream of the rank's device (a cudaStream_t), on
  /// back-ends that know it: the buffers are device memory, and the call only
  /// enqueues; what fails later is in Fabric::abortStatus().
  void* stream = nullptr;
};

/// One part of a bucket: what a collective of its own would move.
struct BucketPart {
  const void* send;
  void* recv;
  int64_t size; // of one block: bytes of a gather, elements of a reduction
};

/// One group of ranks. Every member makes the same calls in the same order, one
/// at a time. A call returns when this rank's result is complete and its inputs
/// may be overwritten; a call on a stream, when it is enqueued.
/// Errors  CollectiveTimeout names the world rank that did not come, and aborts
///         the fabric, so that every rank returns the same error;
///         CollectiveAborted after abort() of any rank; CollectiveMismatch
///         when members call differently; BadCommunicatorArgument;
///         TransportFailed.
class Communicator {
public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0; // in this group
  virtual int size() const = 0;
  /// Bytes that this group holds for itself on this rank (staging, receive
  /// buffers).
  virtual int64_t reservedBytes() const = 0;

  /// recv holds size() blocks of sizeBytes in rank order. send may be its own
  /// block of recv.
  absl::Status allGather(const void* send, void* recv, int64_t sizeBytes,
                         const CollectiveTag& tag) {
    BucketPart part{send, recv, sizeBytes};
    return allGatherBucket({&part, 1}, tag);
  }

  /// As an allGather of each part, with the latency of one: every member gives
  /// as many parts, of the same sizes in the same order.
  virtual absl::Status allGatherBucket(absl::Span<const BucketPart> parts,
                                       const CollectiveTag& tag) = 0;

  /// send holds size() blocks of numElements; recv gets the sum of block rank()
  /// over ranks, added in rank order ((r0 + r1) + r2 ...; f32, or bf16 with f32
  /// sums rounded once). recv may be block rank() of send.
  absl::Status reduceScatter(const void* send, void* recv, int64_t numElements,
                             DType dtype, const CollectiveTag& tag) {
    BucketPart part{send, recv, numElements};
    return reduceScatterBucket({&part, 1}, dtype, tag);
  }

  /// As a reduceScatter of each part, bit for bit.
  virtual absl::Status reduceScatterBucket(absl::Span<const BucketPart> parts,
                                           DType dtype,
                                           const CollectiveTag& tag) = 0;
  /// In place; bits equal reduceScatter followed by allGather for any
  /// numElements.
  virtual absl::Status allReduce(void* data, int64_t numElements, DType dtype,
                                 const CollectiveTag& tag) = 0;
  /// Block i of send goes to rank i; block i of recv comes from rank i.
  virtual absl::Status allToAll(const void* send, void* recv, int64_t sizeBytes,
                                const CollectiveTag& tag) = 0;
  virtual absl::Status broadcast(void* data, int64_t sizeBytes, int root,
                                 const CollectiveTag& tag) = 0;
  /// A send grouped with a receive: either peer may be -1 (none).
  virtual absl::Status exchange(const void* send, int64_t sendBytes,
                                int sendPeer, void* recv, int64_t recvBytes,
                                int recvPeer, const CollectiveTag& tag) = 0;

  absl::Status send(const void* data, int64_t sizeBytes, int peer,
                    const CollectiveTag& tag) {
    return exchange(data, sizeBytes, peer, nullptr, 0, -1, tag);
  }

  absl::Status recv(void* data, int64_t sizeBytes, int peer,
                    const CollectiveTag& tag) {
    return exchange(nullptr, 0, -1, data, sizeBytes, peer, tag);
  }

  virtual absl::Status barrier(const CollectiveTag& tag) = 0;
};

/// Simulated link of the `local` back-end, for tests of overlap: every transfer
/// also sleeps latencySeconds + the bytes that cross this rank's link /
/// bytesPerSecond. 0: none.
struct SimulatedLink {
  double bytesPerSecond = 0;
  double latencySeconds = 0;
};

/// All ranks of a run, seen from one rank.
class Fabric {
public:
  virtual ~Fabric() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* name() const = 0; // "local", "mpi", "nccl"
  /// Makes the group of the given world ranks (this rank among them, in group
  /// order). Collective over exactly these ranks; groups are made in the same
  /// order on all.
  virtual absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) = 0;
  /// Aborts every communicator of every rank; callable from any thread, never
  /// blocks for long; the first reason wins. Later calls of every rank return
  /// it inside a CollectiveAborted that names this rank (a CollectiveTimeout as
  /// it is).
  virtual void abort(const absl::Status& reason) = 0;
  /// Returns ok until this rank knows of an abort; then what its calls return.
  virtual absl::Status abortStatus() const = 0;

  /// True if calls on a stream can be captured in a graph of this rank alone.
  virtual bool canCapture() const { return false; }

  /// Returns lines for the flight recorder about calls on streams: where the
  /// device is in each group. Empty where calls return complete.
  virtual std::string streamProgress() const { return ""; }
};

struct FabricOptions {
  double timeoutSeconds = 300; // of one collective
  int threadsPerRank = 1;      // chooses between spinning and sleeping (local)
  SimulatedLink link = {};     // local only
};

/// Makes `numRanks` fabrics that are threads of this process.
std::vector<std::unique_ptr<Fabric>>
createLocalFabrics(int numRanks, const FabricOptions& options);

/// Joins the MPI job of this process (MPI_Init_thread on first use). Errors
/// MpiUnavailable.
absl::StatusOr<std::unique_ptr<Fabric>>
createMpiFabric(const FabricOptions& options);

} // namespace llmrt
