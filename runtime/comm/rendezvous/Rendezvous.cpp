// SPDX-License-Identifier: Apache-2.0
// The client of the board. Requests are short and answered at once, so one
// connection under one lock serves all threads of a rank.
#include "runtime/comm/rendezvous/Rendezvous.h"

#include "runtime/base/Error.h"
#include "runtime/comm/rendezvous/Wire.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include <cerrno>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace llmrt {

using rendezvous::Frame;
using rendezvous::FrameType;

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRetryPause = std::chrono::milliseconds(20);
constexpr int kAnswerSeconds = 20;

absl::Status failed(const std::string& what, const std::string& advice) {
  return makeError(ErrorCode::RendezvousFailed, what, advice);
}

/// Returns a connected socket, or -1.
int connectTo(const std::string& address, int port) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints,
                  &found) != 0)
    return -1;
  int connected = -1;
  for (addrinfo* at = found; at && connected < 0; at = at->ai_next) {
    int socket = ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket < 0)
      continue;
    // Linux gives up a connect() after the send limit, too.
    timeval limit = {2, 0};
    setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (::connect(socket, at->ai_addr, at->ai_addrlen) == 0)
      connected = socket;
    else
      ::close(socket);
  }
  freeaddrinfo(found);
  if (connected >= 0) {
    int on = 1;
    timeval limit = {kAnswerSeconds, 0};
    setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(connected, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  return connected;
}

std::string whoAmI() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return absl::StrFormat("process %d on %s", getpid(), host);
}

absl::Status lostError() {
  return failed("the connection to rank 0 ended",
                "look at the messages of rank 0");
}

} // namespace

std::string encodeStatus(const absl::Status& status) {
  return absl::StrCat(status.raw_code(), " ", status.message());
}

absl::Status decodeStatus(const std::string& text) {
  std::pair<std::string, std::string> parts =
      absl::StrSplit(text, absl::MaxSplits(' ', 1));
  int code = 0;
  if (!absl::SimpleAtoi(parts.first, &code) || code == 0)
    return absl::UnknownError(text);
  return absl::Status(static_cast<absl::StatusCode>(code), parts.second);
}

absl::StatusOr<std::unique_ptr<Rendezvous>>
Rendezvous::join(const RendezvousOptions& options,
                 std::unique_ptr<RendezvousServer> server) {
  std::unique_ptr<Rendezvous> rendezvous(new Rendezvous(options));
  if (server) {
    rendezvous->options_.port = server->port();
    rendezvous->options_.addresses = {"localhost"};
  }
  rendezvous->server_ = std::move(server);
  auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(
                         std::chrono::duration<double>(options.timeoutSeconds));
  LLMRT_RETURN_IF_ERROR(rendezvous->connect(deadline));
  LLMRT_RETURN_IF_ERROR(rendezvous->sayHello());
  LLMRT_RETURN_IF_ERROR(rendezvous->waitForAll(deadline));
  return rendezvous;
}

Rendezvous::~Rendezvous() {
  if (socket_ < 0)
    return;
  rendezvous::sendAll(socket_,
                      rendezvous::encodeFrame({FrameType::Bye, "", ""}));
  ::close(socket_);
}

std::string Rendezvous::place() const {
  return absl::StrFormat("%s, port %d", absl::StrJoin(options_.addresses, ", "),
                         options_.port);
}

absl::Status Rendezvous::connect(Clock::time_point deadline) {
  while (true) {
    for (const std::string& address : options_.addresses)
      if (socket_ = connectTo(address, options_.port); socket_ >= 0)
        return absl::OkStatus();
    if (Clock::now() > deadline)
      return failed(
          absl::StrFormat("rank %d reached nobody within %g s at %s",
                          options_.rank, options_.timeoutSeconds, place()),
          "look at the messages of rank 0, and whether MASTER_ADDR and "
          "MASTER_PORT name its host and a port that is open to this one");
    std::this_thread::sleep_for(kRetryPause);
  }
}

absl::Status Rendezvous::sayHello() {
  Frame hello = {
      FrameType::Hello, "",
      absl::StrFormat("%d %d %s", options_.rank, options_.size, whoAmI())};
  absl::StatusOr<Frame> answer = ask(hello);
  if (!answer.ok())
    return failed(
        absl::StrFormat("what listens at %s is not rank 0 of a run", place()),
        "choose another port with LLMRT_RENDEZVOUS_PORT");
  if (answer->type == FrameType::Refused)
    return failed(answer->value, "start every rank once, with its own RANK "
                                 "and the same WORLD_SIZE");
  return absl::OkStatus();
}

absl::Status Rendezvous::waitForAll(Clock::time_point deadline) {
  while (true) {
    LLMRT_ASSIGN_OR_RETURN(std::optional<std::string> absent,
                           look(rendezvous::kAbsentKey));
    if (!absent)
      return failed("rank 0 does not know who is absent",
                    "run the same llmrt on every host");
    // First: a rank that has joined may already have failed.
    if (absent->empty())
      return absl::OkStatus();
    LLMRT_ASSIGN_OR_RETURN(std::optional<std::string> abort,
                           look(rendezvous::kAbortKey));
    if (abort)
      return decodeStatus(*abort);
    if (Clock::now() > deadline) {
      // The first one to give up says why to all.
      absl::Status status = failed(
          absl::StrFormat("of %d ranks these did not come within %g s to "
                          "port %d of rank 0: %s",
                          options_.size, options_.timeoutSeconds, options_.port,
                          *absent),
          "look at the messages of these ranks");
      LLMRT_ASSIGN_OR_RETURN(std::string stands, putOnce(rendezvous::kAbortKey,
                                                         encodeStatus(status)));
      return decodeStatus(stands);
    }
    std::this_thread::sleep_for(kRetryPause);
  }
}

absl::StatusOr<Frame> Rendezvous::ask(const Frame& request) {
  std::lock_guard<std::mutex> lock(mutex_);
  // After a failure an answer may still come: it would be taken for the next.
  if (isLost_)
    return lostError();
  isLost_ = true;
  if (!rendezvous::sendAll(socket_, rendezvous::encodeFrame(request)))
    return lostError();
  while (true) {
    bool isCorrupt = false;
    std::optional<Frame> frame = rendezvous::takeFrame(received_, isCorrupt);
    if (isCorrupt)
      return lostError();
    if (frame) {
      isLost_ = false;
      return *frame;
    }
    char bytes[4096];
    ssize_t count = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return lostError();
    received_.append(bytes, count);
  }
}

absl::Status Rendezvous::put(const std::string& key, const std::string& value) {
  return ask({FrameType::Put, key, value}).status();
}

absl::StatusOr<std::string> Rendezvous::putOnce(const std::string& key,
                                                const std::string& value) {
  LLMRT_ASSIGN_OR_RETURN(Frame answer, ask({FrameType::PutOnce, key, value}));
  return answer.value;
}

absl::StatusOr<std::optional<std::string>>
Rendezvous::look(const std::string& key) {
  LLMRT_ASSIGN_OR_RETURN(Frame answer, ask({FrameType::Look, key, ""}));
  if (answer.type == FrameType::Absent)
    return std::optional<std::string>();
  return std::optional<std::string>(answer.value);
}

} // namespace llmrt
