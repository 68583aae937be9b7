// SPDX-License-Identifier: Apache-2.0
// How the ranks of a launcher find rank 0: by MASTER_ADDR and MASTER_PORT, or
// by what rank 0 says over MPI.
#include "runtime/comm/rendezvous/Rendezvous.h"

#include "runtime/base/Error.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <numeric>
#include <unistd.h>

namespace llmrt {
namespace {

constexpr CollectiveTag kTag{-1, "broadcast", "the address of rank 0",
                             "rendezvous"};
constexpr int64_t kPlaceBytes = 1024;

/// Returns the addresses of this host that others may reach, IPv4 first.
std::vector<std::string> ownAddresses() {
  std::vector<std::string> v4, v6;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0)
    return {};
  for (ifaddrs* at = all; at; at = at->ifa_next) {
    bool isUp = (at->ifa_flags & IFF_UP) && !(at->ifa_flags & IFF_LOOPBACK);
    if (!at->ifa_addr || !isUp)
      continue;
    char text[INET6_ADDRSTRLEN] = "";
    if (at->ifa_addr->sa_family == AF_INET) {
      auto* address = reinterpret_cast<sockaddr_in*>(at->ifa_addr);
      v4.emplace_back(
          inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text)));
    }
    if (at->ifa_addr->sa_family == AF_INET6) {
      auto* address = reinterpret_cast<sockaddr_in6*>(at->ifa_addr);
      if (!IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr))
        v6.emplace_back(
            inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof(text)));
    }
  }
  freeifaddrs(all);
  v4.insert(v4.end(), v6.begin(), v6.end());
  return v4;
}

/// The port that is asked for, or nullopt.
absl::StatusOr<std::optional<int>> portOverride(EnvironmentLookup lookup) {
  std::optional<std::string> text = lookup("LLMRT_RENDEZVOUS_PORT");
  if (!text)
    return std::optional<int>();
  int port = 0;
  if (!absl::SimpleAtoi(*text, &port) || port < 1 || port > 65535)
    return makeError(ErrorCode::RendezvousFailed,
                     "LLMRT_RENDEZVOUS_PORT is not a port: \"" + *text + "\"",
                     "set a number from 1 to 65535");
  return std::optional<int>(port);
}

/// Rank 0 tells the others "port host address address ...".
absl::StatusOr<std::unique_ptr<Rendezvous>>
joinOverMpi(Fabric& mpi, RendezvousOptions options, std::optional<int> port) {
  std::unique_ptr<RendezvousServer> server;
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  std::string place;
  if (options.rank == 0) {
    absl::StatusOr<std::unique_ptr<RendezvousServer>> started =
        RendezvousServer::start(options.size, port.value_or(0));
    if (!started.ok()) {
      mpi.abort(started.status());
      return started.status();
    }
    server = std::move(*started);
    place = absl::StrCat(server->port(), " ", host, " ",
                         absl::StrJoin(ownAddresses(), " "));
  }
  std::vector<int> everyone(options.size);
  std::iota(everyone.begin(), everyone.end(), 0);
  LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> all,
                         mpi.createCommunicator(everyone));
  place.resize(kPlaceBytes, '\0');
  LLMRT_RETURN_IF_ERROR(all->broadcast(place.data(), kPlaceBytes, 0, kTag));
  std::vector<std::string> words =
      absl::StrSplit(place.c_str(), ' ', absl::SkipEmpty());
  if (words.size() < 2 || !absl::SimpleAtoi(words[0], &options.port))
    return makeError(ErrorCode::RendezvousFailed,
                     "rank 0 has no address that it can tell",
                     "set MASTER_ADDR, and start with torchrun");
  options.addresses.assign(words.begin() + 2, words.end());
  if (words[1] == host)
    options.addresses.insert(options.addresses.begin(), "localhost");
  return Rendezvous::join(options, std::move(server));
}

} // namespace

absl::StatusOr<std::unique_ptr<Rendezvous>>
joinRendezvous(const LaunchInfo& launch, Fabric* mpi, double timeoutSeconds,
               EnvironmentLookup lookup) {
  LLMRT_ASSIGN_OR_RETURN(std::optional<int> port, portOverride(lookup));
  RendezvousOptions options;
  options.rank = launch.rank;
  options.size = launch.worldSize;
  options.timeoutSeconds = timeoutSeconds;
  if (mpi)
    return joinOverMpi(*mpi, options, port);
  if (launch.worldSize == 1) {
    options.port = port.value_or(0);
  } else if (launch.masterAddress.empty()) {
    return makeError(
        ErrorCode::RendezvousFailed,
        absl::StrFormat("%s started %d processes, but MASTER_ADDR and "
                        "MASTER_PORT do not say where rank 0 is",
                        launcherName(launch.kind), launch.worldSize),
        "start with torchrun or mpirun");
  } else {
    bool hasStore =
        lookup("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
    options.addresses = {launch.masterAddress};
    options.port = port.value_or(launch.masterPort + (hasStore ? 1 : 0));
  }
  std::unique_ptr<RendezvousServer> server;
  if (options.rank == 0) {
    LLMRT_ASSIGN_OR_RETURN(server,
                           RendezvousServer::start(options.size, options.port));
  }
  return Rendezvous::join(options, std::move(server));
}

} // namespace llmrt
