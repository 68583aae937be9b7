// SPDX-License-Identifier: Apache-2.0
// The board of a rendezvous: a thread of rank 0 that keeps keys and values for
// all ranks and notices when one of them is gone. Nothing large passes through.
#pragma once

#include "absl/status/statusor.h"

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace llmrt {

class RendezvousServer {
public:
  /// Listens on `port` of every interface of this host (0: a free one).
  /// Errors  RendezvousFailed, for example if the port is in use.
  static absl::StatusOr<std::unique_ptr<RendezvousServer>> start(int numRanks,
                                                                 int port);
  /// Waits a little for ranks that have not said goodbye, then closes.
  ~RendezvousServer();

  int port() const { return port_; }

private:
  struct Connection {
    int socket = -1;
    int rank = -1; // until its hello
    bool isClosed = false;
    std::string who;
    std::string received;
  };

  RendezvousServer() = default;
  void serve();
  void accept();
  void read(Connection& connection);
  void answer(Connection& connection, const std::string& key,
              const std::string& value, uint32_t type);
  std::string greet(Connection& connection, const std::string& hello);
  void lose(Connection& connection);
  std::string absentRanks() const;
  bool isDone() const;

  int numRanks_ = 0;
  int port_ = 0;
  int listener_ = -1;
  std::atomic<bool> isClosing_{false};
  // Of the thread.
  std::map<std::string, std::string> board_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::string> whoIs_; // by rank; "": has not come
  int numGone_ = 0;                // said goodbye, or lost
  std::thread thread_;
};

} // namespace llmrt
