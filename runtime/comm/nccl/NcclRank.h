// SPDX-License-Identifier: Apache-2.0
// What the groups of one rank share: NCCL and the device, the board of the run,
// the abort, the order of calls, and the thread that watches. Private to
// runtime/comm/nccl.
#pragma once

#include "runtime/comm/nccl/NcclFabric.h"
#include "runtime/comm/nccl/PeerGroup.h"
#include "runtime/comm/nccl/ProgressMarks.h"

#include "absl/functional/function_ref.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace llmrt::nccl {

/// One group of this rank. `comm` is null after an abort; guarded by
/// NcclRank::callMutex_.
struct Group {
  std::vector<int> worldRanks;
  std::string key; // the same on all members, different for every group
  int rank = 0;    // of this rank in the group
  CommHandle comm = nullptr;
  std::unique_ptr<ProgressMarks> marks;
  std::unique_ptr<PeerGroup> peers; // null: NCCL adds all messages
  void* peerStream = nullptr;       // of its last call
};

class NcclRank {
public:
  static absl::StatusOr<std::shared_ptr<NcclRank>>
  create(NcclFabricParts parts, const FabricOptions& options);
  ~NcclRank();

  int rank() const { return board_->rank(); }

  int size() const { return board_->size(); }

  const NcclTable& table() const { return table_; }

  const CudaTable& cuda() const { return cuda_; }

  absl::StatusOr<std::shared_ptr<Group>>
  createGroup(absl::Span<const int> worldRanks);
  /// Waits for what the group has under way, and gives it back to NCCL.
  void closeGroup(Group& group);

  /// Enqueues the NCCL calls that `work` makes, as one group of calls, with the
  /// marks around them and behind all earlier communication of this rank.
  /// Returns when NCCL has enqueued them. A failure aborts the run.
  using Work = absl::FunctionRef<Result(CommHandle comm, void* stream)>;
  absl::Status issue(Group& group, const CallSite& site, void* stream,
                     Work work);
  /// The same for a sum over the group's peers.
  absl::Status issueSum(Group& group, const CallSite& site, void* data,
                        int64_t numElements, DType dtype);
  /// Waits until what was enqueued on `stream` has run, or the run is aborted.
  absl::Status complete(void* stream);

  /// The stream of calls on host memory.
  void* ownStream() const { return ownStream_; }

  void abort(const absl::Status& reason);
  absl::Status abortStatus() const;
  std::string progress() const;

private:
  using Clock = std::chrono::steady_clock;

  /// What the watcher knows of a group.
  struct Watched {
    ProgressMarks::Position last;
    Clock::time_point since;
    int suspect = -1; // of being the one that did not come
    Clock::time_point suspectedSince;
    int64_t firstLook = -1; // of the suspect, that it counted
  };

  NcclRank(NcclFabricParts parts, const FabricOptions& options);

  bool isAborted() const { return isAborted_.load(std::memory_order_acquire); }

  absl::Status fetchUniqueId(Group& group, UniqueId& id);
  absl::Status initialise(Group& group, const UniqueId& id);
  absl::Status joinPeers(Group& group);
  void leavePeers(Group& group);
  absl::Status groupTimeout(const Group& group, const CollectiveTag& tag);
  absl::Status enqueue(Group& group, const CallSite& site, void* stream,
                       Work work);
  absl::Status orderBehindLast(void* stream);
  absl::Status settle(Group& group, const CollectiveTag& tag);
  void keepAbort(const absl::Status& status);

  // The watcher (NcclWatch.cpp).
  void watch();
  double tickSeconds() const;
  void lookForAbort();
  void lookAtErrors();
  void lookAtProgress();
  void lookAtGroup(const Group& group, Watched& watched, std::string& record);
  /// Returns the world rank that has not come to the call of `group`; -1: all
  /// have. Aborts if members called differently.
  int findMissing(const Group& group, const ProgressMarks::Position& mine);
  bool isConfirmed(Watched& watched, int suspect);
  void answerQuestions();
  absl::Status timeoutError(const CallSite& site, int missing);
  void abortGroups();

  NcclTable table_;
  CudaTable cuda_;
  std::unique_ptr<Rendezvous> board_;
  const double timeoutSeconds_; // of a collective
  const double createSeconds_;  // of the creation of a group
  std::map<std::vector<int>, int> numMade_;

  void* ownStream_ = nullptr;
  void* lastStream_ = nullptr; // of the last call
  uint64_t lastCapture_ = 0;
  void* orderEvent_ = nullptr;

  mutable std::mutex callMutex_; // of NCCL's functions and the groups
  std::vector<std::shared_ptr<Group>> groups_;

  std::atomic<bool> isAborted_{false};
  mutable std::mutex statusMutex_;
  absl::Status abortStatus_;

  std::mutex wakeMutex_;
  std::condition_variable wake_;
  bool isClosing_ = false;
  std::map<std::string, Watched> watched_; // by key of the group
  int64_t numLooks_ = 0;
  std::string published_; // this rank's record on the board
  bool groupsAborted_ = false;

  /// Groups that are gone, whose memory others may still read.
  struct LeftPeers {
    std::string group;
    std::vector<int> worldRanks;
    int rank;
    std::unique_ptr<PeerGroup> peers;
  };

  std::vector<LeftPeers> leftPeers_;

  std::thread watcher_;
};

} // namespace llmrt::nccl
