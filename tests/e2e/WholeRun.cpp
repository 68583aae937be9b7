// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/WholeRun.h"

#include "runtime/base/Error.h"
#include "runtime/plan/Mesh.h"
#include "tests/e2e/PlanRunner.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace llmrt {
namespace {

template <typename T>
void fill(absl::Span<uint8_t> bytes, const std::function<T(int64_t)>& value) {
  for (size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
    T v = value(i);
    std::memcpy(bytes.data() + i * sizeof(T), &v, sizeof(T));
  }
}

/// Gives every sequence of an entry its pages, and rows at positions from
/// `begin` on; runs them all.
absl::Status runEntry(Executor& executor, const fb::Plan& plan, int number,
                      int64_t begin) {
  const fb::Entry& entry = *plan.entries()->Get(number);
  int64_t rows = entry.rows_per_sequence();
  int64_t vocabulary = plan.model()->vocab_size();
  auto input = [&](const char* name) { return executor.input(number, name); };
  fill<int32_t>(input("ids"), [&](int64_t i) { return 7 * i % vocabulary; });
  fill<int32_t>(input("positions"),
                [&](int64_t i) { return begin + i % rows; });
  fill<int32_t>(input("valid_rows"), [&](int64_t) { return rows; });
  fill<int32_t>(input("block_table"), [&](int64_t i) { return i; });
  fill<float>(input("temperature"), [](int64_t) { return 0.8f; });
  fill<int32_t>(input("top_k"), [](int64_t) { return 5; });
  fill<float>(input("top_p"), [](int64_t) { return 0.9f; });
  fill<int64_t>(input("seed"), [](int64_t) { return 1; });
  fill<int32_t>(input("sequence"), [](int64_t i) { return i; });
  fill<int32_t>(input("sample_positions"),
                [&](int64_t) { return begin + rows - 1; });
  return executor.execute(number, entry.sequences() * rows, nullptr);
}

absl::Status runRank(const fb::Plan& plan, Fabric& fabric,
                     const WholeRun& run) {
  ExecutorOptions options;
  options.weights = {{"model", run.weights}};
  options.checkMemory = true;
  auto created = run.device
                     ? Executor::create(
                           plan, fabric, options,
                           run.device(*plan.stages()->Get(stageOfCoordinates(
                               plan, coordinatesOfRank(plan, fabric.rank())))))
                     : Executor::create(plan, fabric, options);
  LLMRT_ASSIGN_OR_RETURN(auto executor, std::move(created));
  LLMRT_RETURN_IF_ERROR(executor->initialise());
  for (unsigned e = 0; e < plan.entries()->size(); ++e) {
    int64_t rows = plan.entries()->Get(e)->rows_per_sequence();
    int64_t numCalls = plan.cache_tokens() / rows;
    int64_t first = numCalls - std::min(numCalls, run.mostCalls);
    for (int64_t at = first * rows; at + rows <= plan.cache_tokens();
         at += rows)
      LLMRT_RETURN_IF_ERROR(runEntry(*executor, plan, e, at));
  }
  return checkTouchedMemory(*executor);
}

} // namespace

absl::Status runWhole(const fb::Plan& plan, const WholeRun& run) {
  FabricOptions options;
  options.timeoutSeconds = 60;
  auto fabrics = createLocalFabrics(numRanks(plan), options);
  std::vector<absl::Status> statuses(fabrics.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < fabrics.size(); ++r)
    threads.emplace_back([&, r] {
      statuses[r] = runRank(plan, *fabrics[r], run);
      if (!statuses[r].ok())
        fabrics[r]->abort(statuses[r]);
    });
  for (std::thread& thread : threads)
    thread.join();
  absl::Status first;
  for (const absl::Status& status : statuses)
    if (!status.ok() && (first.ok() || absl::IsAborted(first)))
      first = status;
  return first;
}

} // namespace llmrt
