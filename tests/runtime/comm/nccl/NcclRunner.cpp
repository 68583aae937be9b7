// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/nccl/NcclRunner.h"

#include "runtime/comm/nccl/NcclFabric.h"

#include <dlfcn.h>
#include <thread>

namespace llmrt::testing {
namespace {

/// Puts the calls of the suite on a stream, and waits behind each.
class StreamedCommunicator final : public Communicator {
public:
  StreamedCommunicator(std::unique_ptr<Communicator> inner, Fabric& fabric,
                       FakeCudaStream& stream)
      : inner_(std::move(inner)), fabric_(fabric), stream_(stream) {}

  int rank() const override { return inner_->rank(); }

  int size() const override { return inner_->size(); }

  int64_t reservedBytes() const override { return inner_->reservedBytes(); }

  absl::Status allGatherBucket(absl::Span<const BucketPart> parts,
                               const CollectiveTag& tag) override {
    return finish(inner_->allGatherBucket(parts, onStream(tag)));
  }

  absl::Status reduceScatterBucket(absl::Span<const BucketPart> parts,
                                   DType dtype,
                                   const CollectiveTag& tag) override {
    return finish(inner_->reduceScatterBucket(parts, dtype, onStream(tag)));
  }

  absl::Status allReduce(void* data, int64_t numElements, DType dtype,
                         const CollectiveTag& tag) override {
    return finish(inner_->allReduce(data, numElements, dtype, onStream(tag)));
  }

  absl::Status allToAll(const void* send, void* recv, int64_t sizeBytes,
                        const CollectiveTag& tag) override {
    return finish(inner_->allToAll(send, recv, sizeBytes, onStream(tag)));
  }

  absl::Status broadcast(void* data, int64_t sizeBytes, int root,
                         const CollectiveTag& tag) override {
    return finish(inner_->broadcast(data, sizeBytes, root, onStream(tag)));
  }

  absl::Status exchange(const void* send, int64_t sendBytes, int sendPeer,
                        void* recv, int64_t recvBytes, int recvPeer,
                        const CollectiveTag& tag) override {
    return finish(inner_->exchange(send, sendBytes, sendPeer, recv, recvBytes,
                                   recvPeer, onStream(tag)));
  }

  absl::Status barrier(const CollectiveTag& tag) override {
    return finish(inner_->barrier(onStream(tag)));
  }

private:
  CollectiveTag onStream(CollectiveTag tag) {
    tag.stream = &stream_;
    return tag;
  }

  absl::Status finish(const absl::Status& status) {
    while (!stream_.isIdle())
      std::this_thread::yield();
    return status.ok() ? fabric_.abortStatus() : status;
  }

  std::unique_ptr<Communicator> inner_;
  Fabric& fabric_;
  FakeCudaStream& stream_;
};

class StreamedFabric final : public Fabric {
public:
  explicit StreamedFabric(Fabric& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }

  int size() const override { return inner_.size(); }

  const char* name() const override { return inner_.name(); }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    auto made = inner_.createCommunicator(worldRanks);
    if (!made.ok())
      return made.status();
    return std::make_unique<StreamedCommunicator>(std::move(*made), inner_,
                                                  stream_);
  }

  void abort(const absl::Status& reason) override { inner_.abort(reason); }

  absl::Status abortStatus() const override { return inner_.abortStatus(); }

private:
  Fabric& inner_;
  FakeCudaStream stream_;
};

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
    NcclFabricParts parts = {loadFakeNccl(), fakeCudaTable(),
                             std::move(*joined)};
    auto fabric = createNcclFabric(std::move(parts), options);
    ASSERT_TRUE(fabric.ok()) << fabric.status();
    if (callsOn_ == CallsOn::Host)
      return body(**fabric);
    StreamedFabric streamed(**fabric);
    body(streamed);
  }

  int numRanks_;
  CallsOn callsOn_;
};

} // namespace

std::shared_ptr<RankRunner> makeNcclRunner(int numRanks, CallsOn callsOn) {
  return std::make_shared<NcclRunner>(numRanks, callsOn);
}

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
