// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/nccl/NcclRunner.h"

#include "runtime/comm/nccl/NcclFabric.h"
#include "tests/runtime/comm/cuda/StreamedFabric.h"

#include <atomic>
#include <dlfcn.h>
#include <thread>

namespace llmrt::testing {
namespace {

std::atomic<int> lonelyRank{-1};

class NcclRunner final : public RankRunner {
public:
  NcclRunner(int numRanks, CallsOn callsOn)
      : numRanks_(numRanks), callsOn_(callsOn) {}

  int size() const override { return numRanks_; }

  void run(const FabricOptions& options,
           const std::function<void(Fabric&)>& body) const override {
    auto server = RendezvousServer::start(numRanks_, 0);
    ASSERT_TRUE(server.ok()) << server.status();
    int port = (*server)->port();
    std::vector<std::thread> threads;
    for (int rank = numRanks_ - 1; rank >= 0; --rank)
      threads.emplace_back([&, rank] {
        runRank(rank, port, rank == 0 ? std::move(*server) : nullptr, options,
                body);
      });
    for (std::thread& thread : threads)
      thread.join();
    EXPECT_EQ(fakeControl().numMisuses, 0);
    EXPECT_EQ(fakeControl().numCreated,
              fakeControl().numDestroyed + fakeControl().numAborted);
    EXPECT_EQ(numFakeCudaObjects(), 0) << "not given back";
  }

private:
  void runRank(int rank, int port, std::unique_ptr<RendezvousServer> server,
               const FabricOptions& options,
               const std::function<void(Fabric&)>& body) const {
    RendezvousOptions rendezvous;
    rendezvous.rank = rank;
    rendezvous.size = numRanks_;
    rendezvous.addresses = {"localhost"};
    rendezvous.port = port;
    rendezvous.timeoutSeconds = 30;
    auto joined = Rendezvous::join(rendezvous, std::move(server));
    ASSERT_TRUE(joined.ok()) << joined.status();
    const bool reachesPeers =
        callsOn_ != CallsOn::StreamWithoutPeers && rank != lonelyRank;
    NcclFabricParts parts = {loadFakeNccl(), fakeCudaTable(reachesPeers),
                             std::move(*joined)};
    auto fabric = createNcclFabric(std::move(parts), options);
    ASSERT_TRUE(fabric.ok()) << fabric.status();
    if (callsOn_ == CallsOn::Host)
      return body(**fabric);
    runOnStream(**fabric, body);
  }

  int numRanks_;
  CallsOn callsOn_;
};

} // namespace

std::shared_ptr<RankRunner> makeNcclRunner(int numRanks, CallsOn callsOn) {
  return std::make_shared<NcclRunner>(numRanks, callsOn);
}

void setLonelyFakeRank(int rank) { lonelyRank = rank; }

std::string fakeNcclPath() { return LLMC_FAKE_NCCL; }

NcclTable loadFakeNccl() {
  auto table = NcclTable::load(fakeNcclPath());
  EXPECT_TRUE(table.ok()) << table.status();
  return table.ok() ? *table : NcclTable();
}

FakeNcclControl& fakeControl() {
  static auto* find = reinterpret_cast<FakeNcclControl* (*)()>(
      dlsym(dlopen(fakeNcclPath().c_str(), RTLD_NOW | RTLD_LOCAL),
            "fakeNcclControl"));
  return *find();
}

} // namespace llmrt::testing
