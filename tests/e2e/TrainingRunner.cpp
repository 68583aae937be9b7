// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/TrainingRunner.h"

#include "runtime/base/Error.h"
#include "runtime/base/MappedFile.h"
#include "runtime/executor/Executor.h"
#include "runtime/plan/Mesh.h"
#include "tests/e2e/PlanRunner.h"

#include "absl/strings/str_cat.h"

#include <atomic>
#include <cmath>
#include <filesystem>
#include <cstring>
#include <thread>

namespace llmrt {
namespace {

/// What rank `dataRank` of `dataRanks` gives the step for one input.
std::vector<int32_t> partOf(const std::vector<int32_t>& all, int64_t dataRank,
                            int64_t dataRanks) {
  int64_t run = all.size() / dataRanks;
  return {all.begin() + dataRank * run, all.begin() + (dataRank + 1) * run};
}

void fillHyper(const testing::TrainingOptimizer& o, int step, float* hyper) {
  std::fill_n(hyper, 16, 0.0f);
  const double values[] = {o.learningRate,
                           o.beta1,
                           o.beta2,
                           o.epsilon,
                           o.weightDecay,
                           1 - std::pow(o.beta1, step + 1),
                           1 - std::pow(o.beta2, step + 1),
                           o.clip,
                           0,
                           0,
                           1 - o.beta1,
                           1 - o.beta2};
  std::copy(std::begin(values), std::end(values), hyper);
}

absl::Status runRank(const fb::Plan& plan, Fabric& fabric,
                     const testing::TrainingFixture& fixture,
                     const TrainingRequest& request, TrainingResult& result) {
  ExecutorOptions options;
  options.numThreads = request.numThreads;
  options.weights = {{"model", fixture.checkpoint}};
  options.checkMemory = request.checkMemory;
  LLMRT_ASSIGN_OR_RETURN(auto executor,
                         Executor::create(plan, fabric, options));
  LLMRT_RETURN_IF_ERROR(executor->initialise());
  int64_t dataRank = 0, dataRanks = 1;
  for (unsigned i = 0; i < plan.axes()->size(); ++i)
    if (plan.axes()->Get(i)->name()->string_view() == "dp") {
      dataRank = executor->coordinates()[i];
      dataRanks = plan.axes()->Get(i)->size();
    }
  for (int step = 0; step < request.numSteps; ++step) {
    const testing::TrainingBatch& batch = fixture.batches[step];
    auto give = [&](absl::string_view name, const std::vector<int32_t>& all) {
      std::vector<int32_t> part = partOf(all, dataRank, dataRanks);
      absl::Span<uint8_t> input = executor->stepInput(name);
      if (input.size() == part.size() * sizeof(int32_t))
        std::memcpy(input.data(), part.data(), input.size());
    };
    give("ids", batch.ids);
    give("positions", batch.positions);
    give("starts", batch.starts);
    give("labels", batch.labels);
    if (auto hyper = executor->stepInput("hyper"); !hyper.empty())
      fillHyper(fixture.optimizer, step, reinterpret_cast<float*>(hyper.data()));
    LLMRT_RETURN_IF_ERROR(executor->executeStep(nullptr));
    auto number = [&](absl::string_view name) -> double {
      auto bytes = executor->stepOutput(name);
      return bytes.empty() ? NAN
                           : *reinterpret_cast<const float*>(bytes.data());
    };
    result.losses.push_back(number("loss"));
    result.norms.push_back(number("norm"));
  }
  return request.checkMemory ? checkTouchedMemory(*executor)
                             : absl::OkStatus();
}

} // namespace

absl::StatusOr<TrainingResult>
runTraining(const testing::TrainingFixture& fixture,
            const TrainingRequest& request) {
  const testing::TrainingBatch& first = fixture.batches.front();
  std::vector<std::string> options = request.options;
  options.push_back("--mode=train");
  options.push_back(absl::StrCat("--batch=", first.numSequences));
  options.push_back(absl::StrCat("--seq=", first.numRows));
  options.push_back(absl::StrCat("--objective=", fixture.objective));
  static std::atomic<int> number = 0;
  std::string path = temporaryPath(absl::StrCat("training", number++, ".fb"));
  LLMRT_RETURN_IF_ERROR(compilePlan(fixture.checkpoint, path, options));
  LLMRT_ASSIGN_OR_RETURN(auto file, MappedFile::open(path));
  LLMRT_ASSIGN_OR_RETURN(const fb::Plan* read, readPlan(file.bytes()));
  const fb::Plan& plan = *read;
  int numRanks = llmrt::numRanks(plan);
  auto fabrics =
      createLocalFabrics(numRanks, {.timeoutSeconds = 60, .threadsPerRank = 1});
  std::vector<TrainingResult> results(numRanks);
  std::vector<absl::Status> statuses(numRanks);
  std::vector<std::thread> threads;
  for (int r = 0; r < numRanks; ++r)
    threads.emplace_back([&, r] {
      statuses[r] =
          runRank(plan, *fabrics[r], fixture, request, results[r]);
      if (!statuses[r].ok())
        fabrics[r]->abort(statuses[r]);
    });
  for (std::thread& thread : threads)
    thread.join();
  for (const absl::Status& status : statuses)
    if (!status.ok())
      return status;
  std::filesystem::remove(path);
  // Every rank has the same norm and loss.
  for (const TrainingResult& result : results)
    if (result.losses != results[0].losses || result.norms != results[0].norms)
      return absl::InternalError("ranks disagree about the loss or the norm");
  return results[0];
}

} // namespace llmrt
