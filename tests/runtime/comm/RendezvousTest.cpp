// SPDX-License-Identifier: Apache-2.0
// The rendezvous over TCP: ranks that come, come late, not at all, twice, with
// other numbers, or die.
#include "runtime/comm/rendezvous/Rendezvous.h"

#include "runtime/comm/rendezvous/Wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <map>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace llmrt {
namespace {

using ::testing::AnyOf;
using ::testing::Each;
using ::testing::HasSubstr;

using Joined = absl::StatusOr<std::unique_ptr<Rendezvous>>;

RendezvousOptions optionsOf(int rank, int size, int port,
                            double timeoutSeconds = 20) {
  RendezvousOptions options;
  options.rank = rank;
  options.size = size;
  options.addresses = {"localhost"};
  options.port = port;
  options.timeoutSeconds = timeoutSeconds;
  return options;
}

std::unique_ptr<RendezvousServer> startServer(int size) {
  auto server = RendezvousServer::start(size, 0);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? std::move(*server) : nullptr;
}

std::string messageOf(const Joined& joined) {
  return std::string(joined.status().message());
}

TEST(Rendezvous, CarriesKeysBetweenRanks) {
  constexpr int kSize = 5;
  auto server = startServer(kSize);
  int port = server->port();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kSize; ++rank)
    threads.emplace_back([&, rank] {
      // Some are late.
      std::this_thread::sleep_for(std::chrono::milliseconds(30 * rank));
      Joined joined = Rendezvous::join(optionsOf(rank, kSize, port),
                                       rank == 0 ? std::move(server) : nullptr);
      ASSERT_TRUE(joined.ok()) << joined.status();
      Rendezvous& board = **joined;
      std::string mine = std::string("\0bytes ", 7) + std::to_string(rank);
      EXPECT_TRUE(board.put("key/" + std::to_string(rank), mine).ok());
      std::string next = std::to_string((rank + 1) % kSize);
      absl::StatusOr<std::optional<std::string>> value;
      do {
        value = board.look("key/" + next);
        ASSERT_TRUE(value.ok());
      } while (!*value);
      EXPECT_EQ(**value, std::string("\0bytes ", 7) + next);
      auto stands = board.putOnce("first", std::to_string(rank));
      auto again = board.putOnce("first", "never");
      ASSERT_TRUE(stands.ok() && again.ok());
      EXPECT_EQ(*stands, *again) << "the first value stays";
    });
  for (std::thread& thread : threads)
    thread.join();
}

TEST(Rendezvous, AnAbsentRankIsNamedToAll) {
  auto server = startServer(4);
  int port = server->port();
  std::vector<std::string> messages(3);
  std::vector<std::thread> threads;
  for (int rank : {0, 1, 3})
    threads.emplace_back([&, rank] {
      messages[rank == 3 ? 2 : rank] =
          messageOf(Rendezvous::join(optionsOf(rank, 4, port, 0.4),
                                     rank == 0 ? std::move(server) : nullptr));
    });
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_THAT(messages, Each(AnyOf(HasSubstr("LLMC-E0710: of 4 ranks these did "
                                             "not come within 0.4 s"),
                                   HasSubstr("rank 0"))));
  EXPECT_THAT(messages[0], HasSubstr("rank 0: 2;"));
}

TEST(Rendezvous, WithoutRankZero) {
  // A port that nobody listens on: taken from a server that is gone.
  int port = startServer(1)->port();
  EXPECT_THAT(messageOf(Rendezvous::join(optionsOf(1, 2, port, 0.3))),
              HasSubstr("LLMC-E0710: rank 1 reached nobody within 0.3 s at "
                        "localhost, port"));
}

TEST(Rendezvous, ADuplicateRankEndsTheRun) {
  auto server = startServer(3);
  int port = server->port();
  std::vector<std::string> messages(3);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&, i] {
      int rank = i == 0 ? 0 : 1; // 1 twice
      messages[i] = messageOf(Rendezvous::join(
          optionsOf(rank, 3, port), rank == 0 ? std::move(server) : nullptr));
    });
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_THAT(messages, Each(HasSubstr("both say they are rank 1")));
}

TEST(Rendezvous, AnotherNumberOfRanks) {
  auto server = startServer(2);
  int port = server->port();
  std::string stranger, first;
  std::thread other(
      [&] { stranger = messageOf(Rendezvous::join(optionsOf(1, 8, port))); });
  first = messageOf(Rendezvous::join(optionsOf(0, 2, port), std::move(server)));
  other.join();
  EXPECT_THAT(stranger, HasSubstr("says it is rank 1 of 8, rank 0 was started "
                                  "as one of 2"));
  EXPECT_THAT(first, HasSubstr("says it is rank 1 of 8"));
}

TEST(Rendezvous, PortInUse) {
  auto server = startServer(1);
  auto second = RendezvousServer::start(1, server->port());
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("LLMC-E0710: rank 0 cannot listen on port"));
}

TEST(Rendezvous, StrangersDoNotDisturb) {
  auto server = startServer(1);
  int port = server->port();
  Joined joined = Rendezvous::join(optionsOf(0, 1, port), std::move(server));
  ASSERT_TRUE(joined.ok()) << joined.status();
  for (std::string bytes : {std::string("GET / HTTP/1.1\r\n\r\n"),
                            std::string(64, '\xff'), std::string()}) {
    int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(socket, reinterpret_cast<sockaddr*>(&address),
                        sizeof(address)),
              0);
    ASSERT_EQ(::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    ::close(socket);
  }
  EXPECT_TRUE((*joined)->put("a", "b").ok());
  auto abort = (*joined)->look(rendezvous::kAbortKey);
  ASSERT_TRUE(abort.ok());
  EXPECT_FALSE(abort->has_value());
}

// Another version of rank 0, say, that knows nothing of the ranks that lack.
TEST(Rendezvous, AServerThatDoesNotKnowWhoIsAbsent) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener, generic, size), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ASSERT_EQ(::getsockname(listener, generic, &size), 0);
  std::thread server([listener] {
    const int client = ::accept(listener, nullptr, nullptr);
    std::string bytes;
    char piece[256];
    while (ssize_t count = ::recv(client, piece, sizeof(piece), 0)) {
      if (count < 0)
        break;
      bytes.append(piece, count);
      bool isCorrupt = false;
      while (auto frame = rendezvous::takeFrame(bytes, isCorrupt)) {
        const bool isHello = frame->type == rendezvous::FrameType::Hello;
        if (frame->type != rendezvous::FrameType::Bye)
          rendezvous::sendAll(
              client,
              rendezvous::encodeFrame({isHello ? rendezvous::FrameType::Ok
                                               : rendezvous::FrameType::Absent,
                                       "", ""}));
      }
    }
    ::close(client);
  });
  EXPECT_THAT(
      messageOf(Rendezvous::join(optionsOf(1, 2, ntohs(address.sin_port), 5))),
      HasSubstr("LLMC-E0710: rank 0 does not know who is absent"));
  server.join();
  ::close(listener);
}

// A process that dies without a word: the kernel closes its connection.
TEST(Rendezvous, ARankThatDiesIsNamed) {
  int toChild[2];
  ASSERT_EQ(pipe(toChild), 0);
  pid_t child = fork(); // before any thread
  if (child == 0) {
    int port = 0;
    if (read(toChild[0], &port, sizeof(port)) != sizeof(port))
      _exit(2);
    Joined joined = Rendezvous::join(optionsOf(1, 2, port));
    _exit(joined.ok() ? 0 : 3); // no goodbye
  }
  auto server = startServer(2);
  int port = server->port();
  ASSERT_EQ(write(toChild[1], &port, sizeof(port)), sizeof(port));
  Joined joined = Rendezvous::join(optionsOf(0, 2, port), std::move(server));
  int exitStatus = 0;
  ASSERT_EQ(waitpid(child, &exitStatus, 0), child);
  ASSERT_EQ(exitStatus, 0);
  ASSERT_TRUE(joined.ok()) << joined.status();
  std::optional<std::string> reason;
  for (int i = 0; i < 1000 && !reason; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    auto looked = (*joined)->look(rendezvous::kAbortKey);
    ASSERT_TRUE(looked.ok());
    reason = *looked;
  }
  ASSERT_TRUE(reason.has_value());
  EXPECT_THAT(std::string(decodeStatus(*reason).message()),
              HasSubstr("LLMC-E0702: rank 1 stopped the run: its process ended "
                        "or lost its connection to rank 0"));
  close(toChild[0]);
  close(toChild[1]);
}

using Environment = std::map<std::string, std::string>;

Joined joinWith(const LaunchInfo& launch, const Environment& environment,
                double timeoutSeconds = 20) {
  return joinRendezvous(launch, nullptr, timeoutSeconds,
                        [&](const char* name) -> std::optional<std::string> {
                          auto found = environment.find(name);
                          if (found == environment.end())
                            return std::nullopt;
                          return found->second;
                        });
}

LaunchInfo torchrunLaunch(int rank, int size, int port) {
  LaunchInfo launch;
  launch.kind = Launcher::Torchrun;
  launch.rank = rank;
  launch.worldSize = size;
  launch.masterAddress = "127.0.0.1";
  launch.masterPort = port;
  return launch;
}

/// Returns a port that was free a moment ago, and so was the next one.
int freePort() {
  while (true) {
    int port = startServer(1)->port();
    if (auto next = RendezvousServer::start(1, port + 1); next.ok())
      return port;
  }
}

TEST(JoinRendezvous, MasterAddressWithALateRankZero) {
  int port = freePort();
  std::thread late([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_TRUE(joinWith(torchrunLaunch(0, 2, port), {}).ok());
  });
  Joined joined = joinWith(torchrunLaunch(1, 2, port), {});
  EXPECT_TRUE(joined.ok()) << joined.status();
  joined = nullptr; // says goodbye, which rank 0 waits for
  late.join();
}

// torchrun keeps a store of its own on MASTER_PORT.
TEST(JoinRendezvous, PortBesideTorchrunsStore) {
  int port = freePort();
  auto store = RendezvousServer::start(1, port);
  ASSERT_TRUE(store.ok());
  LaunchInfo launch = torchrunLaunch(0, 1, port);
  launch.worldSize = 2;
  Environment environment = {{"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  EXPECT_THAT(messageOf(joinWith(launch, {})), HasSubstr("cannot listen"));
  // It listens beside the store, and then misses rank 1.
  EXPECT_THAT(messageOf(joinWith(launch, environment, 0.2)),
              HasSubstr("port " + std::to_string(port + 1) + " of rank 0: 1;"));
  environment["LLMRT_RENDEZVOUS_PORT"] = std::to_string(port);
  EXPECT_THAT(messageOf(joinWith(launch, environment, 0.2)),
              HasSubstr("cannot listen"));
  environment["LLMRT_RENDEZVOUS_PORT"] = "70000";
  EXPECT_THAT(messageOf(joinWith(launch, environment)),
              HasSubstr("is not a port"));
}

TEST(JoinRendezvous, OneProcessAloneAndNoAddress) {
  EXPECT_TRUE(joinWith(LaunchInfo(), {}).ok());
  LaunchInfo launch;
  launch.kind = Launcher::Slurm; // and no fabric over MPI
  launch.worldSize = 2;
  EXPECT_THAT(messageOf(joinWith(launch, {})),
              HasSubstr("Slurm started 2 processes, but MASTER_ADDR"));
}

// Where an MPI starts the ranks, rank 0 tells its address over it.
TEST(JoinRendezvous, OverAnotherFabric) {
  auto fabrics = createLocalFabrics(3, {.timeoutSeconds = 20});
  std::vector<std::thread> threads;
  for (auto& fabric : fabrics)
    threads.emplace_back([&] {
      LaunchInfo launch;
      launch.kind = Launcher::OpenMpi;
      launch.rank = fabric->rank();
      launch.worldSize = 3;
      auto lookup = [](const char*) -> std::optional<std::string> {
        return std::nullopt;
      };
      Joined joined = joinRendezvous(launch, fabric.get(), 20, lookup);
      EXPECT_TRUE(joined.ok()) << joined.status();
    });
  for (std::thread& thread : threads)
    thread.join();
}

} // namespace
} // namespace llmrt
