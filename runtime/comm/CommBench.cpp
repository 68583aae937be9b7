// SPDX-License-Identifier: Apache-2.0
// comm-bench: latency and bandwidth of a communicator, as JSON in Google
// Benchmark's shape. Best and median of repeated batches, because hosts are
// noisy.
//   comm-bench [N]      `local` with N ranks (2); under mpirun `mpi`
//   comm-bench gpu [N]  `local` with N ranks that share GPU 0
//   comm-bench nccl     one rank for each process of the launcher
#include "runtime/comm/Communicator.h"
#include "runtime/comm/Launch.h"
#include "runtime/comm/cuda/SharedGpuFabric.h"
#include "runtime/comm/nccl/NcclFabric.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>

namespace {

using llmrt::Communicator;
using llmrt::DType;

struct Measure {
  const char* name;
  int numCalls;      // in one batch
  int64_t sizeBytes; // that cross the link of one rank in one call
  std::function<absl::Status(Communicator&, uint8_t*)> call;
};

/// Where a rank has its data, and how it waits for its calls.
struct Place {
  std::vector<uint8_t> host;
  uint8_t* data = nullptr;
  void* stream = nullptr;
  llmrt::CudaTable cuda;

  static absl::StatusOr<Place> create(const llmrt::CudaTable* cuda,
                                      int64_t sizeBytes) {
    Place place;
    if (!cuda) {
      place.host.resize(sizeBytes);
      place.data = place.host.data();
      return place;
    }
    place.cuda = *cuda;
    void* memory = nullptr;
    absl::Status status = cuda->toStatus(
        cuda->streamCreate(cuda->device, &place.stream), "creating a stream");
    if (status.ok())
      status =
          cuda->toStatus(cuda->allocateDevice(cuda->device, &memory, sizeBytes),
                         "allocating the data");
    if (!status.ok())
      return status;
    place.data = static_cast<uint8_t*>(memory);
    return place;
  }

  absl::Status wait() const {
    int code = 0;
    if (stream)
      do
        code = cuda.streamQuery(cuda.device, stream);
      while (code == llmrt::CudaTable::kNotReady);
    return code == 0 ? absl::OkStatus() : cuda.toStatus(code, "waiting");
  }
};

absl::Status runRank(llmrt::Fabric& fabric, const llmrt::CudaTable* cuda,
                     nlohmann::ordered_json& report) {
  constexpr int kNumBatches = 15;
  std::vector<int> all(fabric.size());
  std::iota(all.begin(), all.end(), 0);
  auto comm = fabric.createCommunicator(all);
  if (!comm.ok())
    return comm.status();
  auto place = Place::create(cuda, int64_t{fabric.size()} << 24);
  if (!place.ok())
    return place.status();
  int64_t peers = fabric.size() - 1;
  const llmrt::CollectiveTag tag = {0, "bench", "", "", place->stream};
  std::vector<Measure> measures = {
      {"allReduce/8KB", 200, peers * 8192,
       [&](Communicator& c, uint8_t* data) {
         return c.allReduce(data, 2048, DType::F32, tag);
       }},
      {"allReduce/1MB", 10, peers * (1 << 20),
       [&](Communicator& c, uint8_t* data) {
         return c.allReduce(data, 1 << 18, DType::F32, tag);
       }},
      {"allGather/16MB", 2, peers * (16 << 20),
       [&](Communicator& c, uint8_t* data) {
         return c.allGather(data + (int64_t{c.rank()} << 24), data, 16 << 20,
                            tag);
       }},
      {"barrier", 200, 0,
       [&](Communicator& c, uint8_t*) { return c.barrier(tag); }},
  };
  for (const Measure& measure : measures) {
    std::vector<double> micros;
    for (int batch = 0; batch < kNumBatches; ++batch) {
      absl::Status status = (*comm)->barrier(tag);
      if (status.ok())
        status = place->wait();
      auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < measure.numCalls && status.ok(); ++i)
        status = measure.call(**comm, place->data);
      if (status.ok())
        status = place->wait();
      if (status.ok() && place->stream)
        status = fabric.abortStatus();
      if (!status.ok())
        return status;
      std::chrono::duration<double, std::micro> elapsed =
          std::chrono::steady_clock::now() - start;
      micros.push_back(elapsed.count() / measure.numCalls);
    }
    std::sort(micros.begin(), micros.end());
    double median = micros[micros.size() / 2];
    std::string name = std::string(fabric.name()) + (cuda ? "-gpu/" : "/") +
                       std::to_string(fabric.size()) + "/" + measure.name;
    report["benchmarks"].push_back(
        {{"name", name},
         {"real_time", median},
         {"time_unit", "us"},
         {"best_time", micros.front()},
         {"bytes_per_second", measure.sizeBytes / (median * 1e-6)}});
  }
  return absl::OkStatus();
}

int finish(const absl::Status& status, int rank,
           const nlohmann::ordered_json& report) {
  if (!status.ok()) {
    std::fprintf(stderr, "comm-bench: %s\n", status.ToString().c_str());
    return 1;
  }
  if (rank == 0)
    std::printf("%s\n", report.dump(2).c_str());
  return 0;
}

int benchThreads(int numRanks, const llmrt::CudaTable* cuda) {
  auto fabrics = cuda ? llmrt::createSharedGpuFabrics(numRanks, *cuda, {})
                      : llmrt::createLocalFabrics(numRanks, {});
  std::vector<std::thread> threads;
  std::vector<nlohmann::ordered_json> reports(numRanks);
  std::vector<absl::Status> statuses(numRanks);
  for (int r = 0; r < numRanks; ++r)
    threads.emplace_back(
        [&, r] { statuses[r] = runRank(*fabrics[r], cuda, reports[r]); });
  for (std::thread& thread : threads)
    thread.join();
  return finish(statuses[0], 0, reports[0]);
}

int benchProcess(absl::StatusOr<std::unique_ptr<llmrt::Fabric>> fabric,
                 const llmrt::CudaTable* cuda) {
  if (!fabric.ok())
    return finish(fabric.status(), 0, {});
  nlohmann::ordered_json report;
  absl::Status status = runRank(**fabric, cuda, report);
  return finish(status, (*fabric)->rank(), report);
}

int benchNccl(const llmrt::LaunchInfo& launch) {
  std::unique_ptr<llmrt::Fabric> mpi;
  if (launch.isMpi()) {
    auto joined = llmrt::createMpiFabric({});
    if (!joined.ok())
      return finish(joined.status(), 0, {});
    mpi = std::move(*joined);
  }
  auto cuda = llmrt::loadCudaTable(launch.localRank);
  if (!cuda.ok())
    return finish(cuda.status(), 0, {});
  return benchProcess(llmrt::joinNcclFabric(launch, mpi.get(), {}), &*cuda);
}

} // namespace

int main(int argc, char** argv) {
  absl::StatusOr<llmrt::LaunchInfo> launch = llmrt::detectLaunch();
  if (!launch.ok())
    return finish(launch.status(), 0, {});
  std::string kind = argc > 1 ? argv[1] : "";
  if (kind == "nccl")
    return benchNccl(*launch);
  if (kind == "gpu") {
    auto cuda = llmrt::loadCudaTable(0);
    if (!cuda.ok())
      return finish(cuda.status(), 0, {});
    return benchThreads(argc > 2 ? std::max(1, std::atoi(argv[2])) : 2, &*cuda);
  }
  if (launch->isMpi())
    return benchProcess(llmrt::createMpiFabric({}), nullptr);
  return benchThreads(argc > 1 ? std::max(1, std::atoi(argv[1])) : 2, nullptr);
}
