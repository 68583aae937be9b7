// SPDX-License-Identifier: Apache-2.0
// Where the ranks of a run meet before they can communicate, and what they
// know of each other meanwhile: a board of small keys and values at rank 0,
// over TCP. It carries unique ids, the reason of an abort and who waits for
// whom; never data. The network is trusted, as by other launchers: anyone who
// reaches the port can end the run.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/Launch.h"
#include "runtime/comm/rendezvous/RendezvousServer.h"
#include "runtime/comm/rendezvous/Wire.h"

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

namespace llmrt {

struct RendezvousOptions {
  int rank = 0;
  int size = 1;
  std::vector<std::string> addresses; // of rank 0, tried in turns
  int port = 0;
  double timeoutSeconds = 300;
};

class Rendezvous {
public:
  /// Returns when all ranks have come. Rank 0 gives the server.
  /// Errors  RendezvousFailed names the rank that did not come, or the two
  ///         processes that are the same rank.
  static absl::StatusOr<std::unique_ptr<Rendezvous>>
  join(const RendezvousOptions& options,
       std::unique_ptr<RendezvousServer> server = nullptr);
  /// Says goodbye; rank 0 stays a little while others are on their way out.
  ~Rendezvous();

  int rank() const { return options_.rank; }

  int size() const { return options_.size; }

  // From any thread; each is one short trip to rank 0.
  // Errors  RendezvousFailed if rank 0 cannot be reached any more.
  absl::Status put(const std::string& key, const std::string& value);
  /// The first value of a key stays; returns it.
  absl::StatusOr<std::string> putOnce(const std::string& key,
                                      const std::string& value);
  absl::StatusOr<std::optional<std::string>> look(const std::string& key);

private:
  explicit Rendezvous(const RendezvousOptions& options) : options_(options) {}

  absl::Status connect(std::chrono::steady_clock::time_point deadline);
  absl::Status sayHello();
  absl::Status waitForAll(std::chrono::steady_clock::time_point deadline);
  std::string place() const;
  /// Sends a request and returns its answer.
  absl::StatusOr<rendezvous::Frame> ask(const rendezvous::Frame& request);

  RendezvousOptions options_;
  std::unique_ptr<RendezvousServer> server_;
  std::mutex mutex_; // of the connection
  int socket_ = -1;
  bool isLost_ = false;
  std::string received_;
};

/// Joins the ranks that a launcher started: at MASTER_ADDR and MASTER_PORT, or,
/// where `mpi` is given, at an address that rank 0 sends over MPI. Where
/// torchrun keeps a store of its own on MASTER_PORT the next port is used;
/// LLMRT_RENDEZVOUS_PORT names another one.
/// Errors  RendezvousFailed; those of `mpi`.
absl::StatusOr<std::unique_ptr<Rendezvous>>
joinRendezvous(const LaunchInfo& launch, Fabric* mpi, double timeoutSeconds,
               EnvironmentLookup lookup);

/// A status as the value of a key, and back.
std::string encodeStatus(const absl::Status& status);
absl::Status decodeStatus(const std::string& text);

} // namespace llmrt
