// SPDX-License-Identifier: Apache-2.0
// Runs a plan on ranks that are threads, as llmrt does without a launcher.
#pragma once

#include "runtime/executor/Executor.h"
#include "tests/plan/PlanBuilder.h"

#include <functional>
#include <gtest/gtest.h>
#include <thread>

namespace llmrt::test {

struct RunOptions {
  ExecutorOptions executor;
  FabricOptions fabric;
  // Makes the device of a rank; without, that of the plan's target.
  std::function<std::unique_ptr<Device>()> device = {};
};

/// What one rank does with its executor.
using RankBody = std::function<absl::Status(Executor&)>;

/// Creates and initialises the executors of all ranks of `plan`, runs `body` on
/// each and returns every rank's status.
inline std::vector<absl::Status> runRanks(const fb::Plan& plan,
                                          const RunOptions& options,
                                          const RankBody& body) {
  std::vector<std::unique_ptr<Fabric>> fabrics =
      createLocalFabrics(numRanks(plan), options.fabric);
  std::vector<absl::Status> statuses(fabrics.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < fabrics.size(); ++r)
    threads.emplace_back([&, r] {
      statuses[r] = [&]() -> absl::Status {
        auto executor =
            options.device
                ? Executor::create(plan, *fabrics[r], options.executor,
                                   options.device())
                : Executor::create(plan, *fabrics[r], options.executor);
        if (!executor.ok())
          return executor.status();
        absl::Status status = (*executor)->initialise();
        return status.ok() ? body(**executor) : status;
      }();
    });
  for (std::thread& thread : threads)
    thread.join();
  return statuses;
}

/// The same behind the reader; its error is the only status if it refuses.
inline std::vector<absl::Status> runRanks(const fb::PlanT& plan,
                                          const RunOptions& options,
                                          const RankBody& body) {
  PlanBytes file = finishPlan(plan);
  auto read = readPlan(file);
  if (!read.ok())
    return {read.status()};
  return runRanks(**read, options, body);
}

template <typename T>
absl::Span<T> inputAs(Executor& executor, int entry, absl::string_view name) {
  absl::Span<uint8_t> bytes = executor.input(entry, name);
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

template <typename T>
std::vector<T> outputAs(const Executor& executor, int entry,
                        absl::string_view name) {
  absl::Span<const uint8_t> bytes = executor.output(entry, name);
  const T* data = reinterpret_cast<const T*>(bytes.data());
  return {data, data + bytes.size() / sizeof(T)};
}

inline void expectAllOk(const std::vector<absl::Status>& statuses) {
  for (const absl::Status& status : statuses)
    EXPECT_TRUE(status.ok()) << status;
}

} // namespace llmrt::test
