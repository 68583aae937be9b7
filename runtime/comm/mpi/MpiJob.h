// SPDX-License-Identifier: Apache-2.0
// This process in its MPI job: one for each process, because MPI is. It owns
// MPI_Init and MPI_Finalize, waits for requests against a deadline, and speaks
// the control protocol: aborts, and the question who waits for whom. Private to
// runtime/comm/mpi.
#pragma once

#include "runtime/comm/Communicator.h"

#include <atomic>
#include <map>
#include <mpi.h>
#include <mutex>

namespace llmrt::mpi {

/// The non-blocking operations of one collective, with the world rank at the
/// other end of each.
class Transfers {
public:
  void clear() {
    requests.clear();
    peers.clear();
    receiveBytes.clear();
  }

  std::vector<MPI_Request> requests;
  std::vector<int> peers;
  std::vector<int> receiveBytes; // -1: a send
  std::vector<MPI_Status> statuses;
};

class MpiJob {
public:
  /// Returns the job of this process; joins it on the first call.
  static absl::StatusOr<MpiJob*> join();

  int rank() const { return rank_; }

  int size() const { return size_; }

  /// Returns the message tag of a group: equal on its members, and different
  /// for groups that a pair of ranks shares, but for a small chance that does
  /// no harm while all ranks use their groups in one order.
  int tagOfGroup(const std::vector<int>& worldRanks);

  /// Posts operations; messages above 1 GiB go in pieces.
  void postReceive(Transfers& transfers, void* data, int64_t sizeBytes,
                   int peer, int tag);
  void postSend(Transfers& transfers, const void* data, int64_t sizeBytes,
                int peer, int tag);
  /// Waits until all are complete. On failure the receives are cancelled.
  absl::Status complete(Transfers& transfers, double timeoutSeconds,
                        const CollectiveTag& tag);

  void abort(const absl::Status& reason);
  /// Looks for the abort of another rank; returns ok until there is one.
  absl::Status checkAbort();

private:
  enum MessageType : int32_t { Abort, WhoDoYouWaitFor, IWaitFor };

  /// Small enough to be sent without waiting for the receiver.
  struct ControlMessage {
    int32_t type = Abort;
    int32_t rank = -1;
    int32_t statusCode = 0;
    char text[1500] = {};
  };

  bool isAborted() const { return isAborted_.load(std::memory_order_acquire); }

  absl::Status abortStatus() const;
  absl::Status initialise();
  /// Runs when the process ends.
  void finalise(int exitCode);
  void keepAbort(const absl::Status& status);
  void sendControl(const ControlMessage& message, int peer);
  /// Handles what has come; `waitsFor` is this rank's answer. Returns the
  /// answer to this rank's own question, if one came, else -1.
  int pollControl(int waitsFor);
  bool testAll(Transfers& transfers, absl::Status& status,
               const CollectiveTag& tag);
  /// Returns the world rank of the first incomplete receive, else send, else
  /// -1.
  int firstMissing(Transfers& transfers);
  absl::Status timeOut(Transfers& transfers, double timeoutSeconds,
                       const CollectiveTag& tag);
  void cancel(Transfers& transfers);
  absl::Status transportError(int code, int peer, const CollectiveTag& tag);

  int rank_ = 0;
  int size_ = 1;
  MPI_Comm data_ = MPI_COMM_NULL;
  MPI_Comm control_ = MPI_COMM_NULL;
  std::mutex mpiMutex_; // MPI is entered by one thread at a time
  std::atomic<bool> isAborted_{false};
  mutable std::mutex statusMutex_;
  absl::Status abortStatus_;
  std::mutex groupsMutex_;
  std::map<std::vector<int>, int> numMade_;

  struct Outgoing {
    ControlMessage message;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  std::vector<std::unique_ptr<Outgoing>> outgoing_;
};

} // namespace llmrt::mpi
