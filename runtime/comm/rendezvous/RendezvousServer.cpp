// SPDX-License-Identifier: Apache-2.0
// One thread, one poll loop. A connection that ends without a goodbye is a rank
// that died: the reason of the abort is written for it, so that the others do
// not wait for their time limit.
#include "runtime/comm/rendezvous/RendezvousServer.h"

#include "runtime/base/Error.h"
#include "runtime/comm/CollectiveErrors.h"
#include "runtime/comm/rendezvous/Rendezvous.h"
#include "runtime/comm/rendezvous/Wire.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace llmrt {

using rendezvous::Frame;
using rendezvous::FrameType;

namespace {

constexpr int kPollMillis = 50;
/// How long rank 0 stays for ranks that are still on their way out, which
/// without it would take their end for a failure.
constexpr double kGoodbyeSeconds = 60;
constexpr double kGoodbyeSecondsAborted = 2;

absl::Status listenError(int port, int error) {
  return makeError(
      ErrorCode::RendezvousFailed,
      absl::StrFormat("rank 0 cannot listen on port %d: %s", port,
                      std::strerror(error)),
      "choose another port: MASTER_PORT, or LLMRT_RENDEZVOUS_PORT if the "
      "launcher itself uses that one");
}

void setOption(int socket, int level, int name, int value) {
  setsockopt(socket, level, name, &value, sizeof(value));
}

/// Returns a socket that listens on `port`, which it sets if it is 0; -1 with
/// errno.
int listenOn(int family, int& port) {
  int listener = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0)
    return -1;
  setOption(listener, SOL_SOCKET, SO_REUSEADDR, 1);
  sockaddr_in6 v6 = {};
  sockaddr_in v4 = {};
  v6.sin6_family = AF_INET6;
  v4.sin_family = AF_INET;
  v6.sin6_port = v4.sin_port = htons(static_cast<uint16_t>(port));
  bool isV6 = family == AF_INET6;
  if (isV6)
    setOption(listener, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  auto* address = isV6 ? reinterpret_cast<sockaddr*>(&v6)
                       : reinterpret_cast<sockaddr*>(&v4);
  socklen_t length = isV6 ? sizeof(v6) : sizeof(v4);
  if (::bind(listener, address, length) != 0 || ::listen(listener, 1024) != 0) {
    int error = errno;
    ::close(listener);
    errno = error;
    return -1;
  }
  getsockname(listener, address, &length);
  port = ntohs(isV6 ? v6.sin6_port : v4.sin_port);
  return listener;
}

} // namespace

absl::StatusOr<std::unique_ptr<RendezvousServer>>
RendezvousServer::start(int numRanks, int port) {
  std::unique_ptr<RendezvousServer> server(new RendezvousServer());
  server->numRanks_ = numRanks;
  server->whoIs_.resize(numRanks);
  server->port_ = port;
  // A socket of IPv6 takes IPv4, too; but a host may have no IPv6.
  server->listener_ = listenOn(AF_INET6, server->port_);
  if (server->listener_ < 0 && errno != EADDRINUSE)
    server->listener_ = listenOn(AF_INET, server->port_);
  if (server->listener_ < 0)
    return listenError(port, errno);
  server->thread_ = std::thread([raw = server.get()] { raw->serve(); });
  return server;
}

RendezvousServer::~RendezvousServer() {
  isClosing_.store(true);
  if (thread_.joinable())
    thread_.join();
  for (auto& connection : connections_)
    if (!connection->isClosed)
      ::close(connection->socket);
  if (listener_ >= 0)
    ::close(listener_);
}

bool RendezvousServer::isDone() const {
  int numCome = 0;
  for (const std::string& who : whoIs_)
    numCome += !who.empty();
  return numGone_ >= numCome;
}

void RendezvousServer::serve() {
  std::chrono::steady_clock::time_point closingSince;
  bool wasClosing = false;
  while (true) {
    if (isClosing_.load()) {
      auto now = std::chrono::steady_clock::now();
      if (!wasClosing)
        closingSince = now;
      wasClosing = true;
      std::chrono::duration<double> waited = now - closingSince;
      double limit = board_.count(rendezvous::kAbortKey)
                         ? kGoodbyeSecondsAborted
                         : kGoodbyeSeconds;
      if (isDone() || waited.count() > limit)
        return;
    }
    std::vector<pollfd> polled = {{listener_, POLLIN, 0}};
    for (auto& connection : connections_)
      polled.push_back({connection->socket, POLLIN, 0});
    ::poll(polled.data(), polled.size(), kPollMillis);
    size_t numPolled = connections_.size();
    for (size_t i = 0; i < numPolled; ++i)
      if (polled[i + 1].revents)
        read(*connections_[i]);
    if (polled[0].revents & POLLIN)
      accept();
    std::erase_if(connections_, [](auto& c) { return c->isClosed; });
  }
}

void RendezvousServer::accept() {
  int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0)
    return;
  setOption(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  timeval limit = {2, 0}; // a rank that does not read its answers is lost
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  auto connection = std::make_unique<Connection>();
  connection->socket = socket;
  connections_.push_back(std::move(connection));
}

void RendezvousServer::read(Connection& connection) {
  char bytes[4096];
  ssize_t count = ::recv(connection.socket, bytes, sizeof(bytes), MSG_DONTWAIT);
  if (count < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (count <= 0)
    return lose(connection);
  connection.received.append(bytes, count);
  bool isCorrupt = false;
  while (!connection.isClosed) {
    std::optional<Frame> frame =
        rendezvous::takeFrame(connection.received, isCorrupt);
    if (isCorrupt)
      return lose(connection);
    if (!frame)
      return;
    answer(connection, frame->key, frame->value,
           static_cast<uint32_t>(frame->type));
  }
}

void RendezvousServer::answer(Connection& connection, const std::string& key,
                              const std::string& value, uint32_t type) {
  Frame reply;
  switch (static_cast<FrameType>(type)) {
  case FrameType::Hello:
    reply.value = greet(connection, value);
    reply.type = reply.value.empty() ? FrameType::Ok : FrameType::Refused;
    break;
  case FrameType::Put:
    board_[key] = value;
    break;
  case FrameType::PutOnce:
    reply.value = board_.try_emplace(key, value).first->second;
    break;
  case FrameType::Look: {
    auto found = board_.find(key);
    if (key == rendezvous::kAbsentKey)
      reply.value = absentRanks();
    else if (found != board_.end())
      reply.value = found->second;
    else
      reply.type = FrameType::Absent;
    break;
  }
  case FrameType::Bye:
    numGone_ += connection.rank >= 0;
    connection.rank = -1;
    return lose(connection);
  default:
    return lose(connection);
  }
  // Only ranks may write: what came before a hello is dropped.
  bool isKnown = connection.rank >= 0 || reply.type == FrameType::Refused;
  if (!isKnown ||
      !rendezvous::sendAll(connection.socket, rendezvous::encodeFrame(reply)))
    lose(connection);
}

std::string RendezvousServer::greet(Connection& connection,
                                    const std::string& hello) {
  std::vector<std::string> words =
      absl::StrSplit(hello, absl::MaxSplits(' ', 2));
  int rank = -1, size = 0;
  if (words.size() != 3 || !absl::SimpleAtoi(words[0], &rank) ||
      !absl::SimpleAtoi(words[1], &size))
    return "this is no rank of llmrt";
  std::string problem;
  if (size != numRanks_ || rank < 0 || rank >= numRanks_)
    problem = absl::StrFormat(
        "%s says it is rank %d of %d, rank 0 was started as one of %d",
        words[2], rank, size, numRanks_);
  else if (!whoIs_[rank].empty())
    problem = absl::StrFormat("%s and %s both say they are rank %d",
                              whoIs_[rank], words[2], rank);
  if (problem.empty()) {
    whoIs_[rank] = words[2];
    connection.rank = rank;
    return "";
  }
  // The run cannot begin any more: the ranks that wait are told, too.
  board_.try_emplace(
      rendezvous::kAbortKey,
      encodeStatus(makeError(ErrorCode::RendezvousFailed, problem,
                             "start every rank once, with its own RANK and the "
                             "same WORLD_SIZE")));
  return problem;
}

void RendezvousServer::lose(Connection& connection) {
  ::close(connection.socket);
  connection.isClosed = true;
  if (connection.rank < 0)
    return;
  ++numGone_;
  absl::Status reason = makeAbortedError(
      connection.rank, absl::UnavailableError("its process ended or lost its "
                                              "connection to rank 0"));
  board_.try_emplace(rendezvous::kAbortKey, encodeStatus(reason));
}

std::string RendezvousServer::absentRanks() const {
  std::vector<int> absent;
  for (int rank = 0; rank < numRanks_; ++rank)
    if (whoIs_[rank].empty())
      absent.push_back(rank);
  return absl::StrJoin(absent, ",");
}

} // namespace llmrt
