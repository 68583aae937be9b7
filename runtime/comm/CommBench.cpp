// SPDX-License-Identifier: Apache-2.0
// comm-bench: latency and bandwidth of a communicator, as JSON in Google
// Benchmark's shape. Under mpirun it measures `mpi`, else `local` with as many
// ranks as the first argument says (2). Best and median of repeated batches,
// because hosts are noisy.
#include "runtime/comm/Communicator.h"
#include "runtime/comm/Launch.h"

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
  std::function<absl::Status(Communicator&, std::vector<float>&)> call;
};

absl::Status runRank(llmrt::Fabric& fabric, nlohmann::ordered_json& report) {
  constexpr int kNumBatches = 15;
  std::vector<int> all(fabric.size());
  std::iota(all.begin(), all.end(), 0);
  auto comm = fabric.createCommunicator(all);
  if (!comm.ok())
    return comm.status();
  int64_t peers = fabric.size() - 1;
  const llmrt::CollectiveTag tag = {0, "bench", "", ""};
  std::vector<Measure> measures = {
      {"allReduce/8KB", 200, peers * 8192,
       [&](Communicator& c, std::vector<float>& data) {
         return c.allReduce(data.data(), 2048, DType::F32, tag);
       }},
      {"allReduce/1MB", 10, peers * (1 << 20),
       [&](Communicator& c, std::vector<float>& data) {
         return c.allReduce(data.data(), 1 << 18, DType::F32, tag);
       }},
      {"allGather/16MB", 2, peers * (16 << 20),
       [&](Communicator& c, std::vector<float>& data) {
         float* own = data.data() + (int64_t{c.rank()} << 22);
         return c.allGather(own, data.data(), 16 << 20, tag);
       }},
      {"barrier", 200, 0,
       [&](Communicator& c, std::vector<float>&) { return c.barrier(tag); }},
  };
  std::vector<float> data(static_cast<size_t>(fabric.size()) << 22, 0.0f);
  for (const Measure& measure : measures) {
    std::vector<double> micros;
    for (int batch = 0; batch < kNumBatches; ++batch) {
      if (absl::Status status = (*comm)->barrier(tag); !status.ok())
        return status;
      auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < measure.numCalls; ++i) {
        absl::Status status = measure.call(**comm, data);
        if (!status.ok())
          return status;
      }
      std::chrono::duration<double, std::micro> elapsed =
          std::chrono::steady_clock::now() - start;
      micros.push_back(elapsed.count() / measure.numCalls);
    }
    std::sort(micros.begin(), micros.end());
    double median = micros[micros.size() / 2];
    report["benchmarks"].push_back(
        {{"name", std::string(fabric.name()) + "/" +
                      std::to_string(fabric.size()) + "/" + measure.name},
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

} // namespace

int main(int argc, char** argv) {
  absl::StatusOr<llmrt::LaunchInfo> launch = llmrt::detectLaunch();
  if (!launch.ok())
    return finish(launch.status(), 0, {});
  nlohmann::ordered_json report;
  if (launch->isMpi()) {
    auto fabric = llmrt::createMpiFabric({});
    if (!fabric.ok())
      return finish(fabric.status(), 0, {});
    absl::Status status = runRank(**fabric, report);
    return finish(status, (*fabric)->rank(), report);
  }
  int numRanks = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  auto fabrics = llmrt::createLocalFabrics(numRanks, {});
  std::vector<std::thread> threads;
  std::vector<nlohmann::ordered_json> reports(numRanks);
  std::vector<absl::Status> statuses(numRanks);
  for (int r = 0; r < numRanks; ++r)
    threads.emplace_back(
        [&, r] { statuses[r] = runRank(*fabrics[r], reports[r]); });
  for (std::thread& thread : threads)
    thread.join();
  return finish(statuses[0], 0, reports[0]);
}
