// SPDX-License-Identifier: Apache-2.0
// The memory through which the ranks of one group add small messages in one
// kernel (runtime/comm/cuda/PeerSum.h), if all of them reach each other's
// GPUs. Private to runtime/comm/nccl.
#pragma once

#include "runtime/comm/cuda/CudaTable.h"
#include "runtime/comm/nccl/ProgressMarks.h"
#include "runtime/comm/rendezvous/Rendezvous.h"

#include "absl/functional/function_ref.h"

namespace llmrt::nccl {

/// How a group tells its ranks of a value that each of them has.
struct PeerBoard {
  Rendezvous& board;
  const std::string& group; // key, the same on all ranks
  absl::Span<const int> worldRanks;
  int rank; // of this one in the group
  /// Says whether to go on waiting for others: an error, e.g. that time is
  /// over for this world rank.
  absl::FunctionRef<absl::Status(int missing)> goOn;
};

class PeerGroup {
public:
  /// Collective over the group. Returns null if sums go through NCCL: one rank,
  /// or more than kMaxPeers; LLMRT_PEER_SUMS=off on a rank; GPUs that do not
  /// reach each other (other hosts, no peer access). All ranks agree.
  /// Errors  those of the board and of goOn().
  static absl::StatusOr<std::unique_ptr<PeerGroup>>
  create(const CudaTable& cuda, const PeerBoard& board);
  ~PeerGroup();

  /// True for a message that this adds: not empty, at most kMaxPeerSumBytes.
  static bool takes(int64_t numElements, DType dtype);

  /// Enqueues the sum over ranks, in place, with its marks. Also in a capture.
  absl::Status allReduce(void* stream, void* data, int64_t numElements,
                         DType dtype, const ProgressMarks& marks,
                         uint32_t number) const;

  /// Ends the calls that wait for others. From any thread.
  void abort();

  /// Says that this rank is done: what it enqueued has run.
  void close(const PeerBoard& board);
  /// Waits until all ranks are, so that the memory can be given back; else it
  /// stays until the process ends.
  void awaitOthers(const PeerBoard& board);

  static int64_t reservedBytes();

private:
  explicit PeerGroup(const CudaTable& cuda) : cuda_(cuda) {}

  absl::Status offer();
  bool open(const std::string& offer, int rank);
  void giveBack();

  CudaTable cuda_;
  int rank_ = 0;
  std::vector<PeerMemory*> peers_; // by rank; null: not open
  CudaTable::SharedMemory mine_ = {};
  uint32_t* isAborted_ = nullptr; // pinned
  bool isClosed_ = false;
};

} // namespace llmrt::nccl
