// SPDX-License-Identifier: Apache-2.0
// The loop without a model: an executor whose "step" mixes everything that it
// was given into its weights, so that a wrong batch, position, learning rate or
// count of updates changes every later loss.
#include "runtime/training/TrainingLoop.h"

#include "runtime/base/Error.h"
#include "runtime/data/TokenFileWriter.h"
#include "runtime/plan/Mesh.h"
#include "tests/plan/PlanBuilder.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <map>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <unistd.h>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kRows = 6;
constexpr int64_t kBatch = 12;
constexpr const char* kNames[] = {"ids", "positions", "starts", "labels"};

/// dp ranks that hold all of two tensors, the second one trained in shards of
/// moments if there are several ranks.
test::PlanBytes makePlan(int dp, int microBatches) {
  test::PlanBuilder b({{"dp", dp}});
  b.entry("forward", kBatch / dp / microBatches, kRows);
  b.program(0);
  b.plan.batch = kBatch;
  b.plan.cache_tokens = kRows;
  b.plan.micro_batches = microBatches;
  for (auto [name, shape] :
       {std::pair<const char*, std::vector<int64_t>>{"w", {4, 3}},
        {"bias", {5}}}) {
    int64_t size = std::accumulate(shape.begin(), shape.end(), int64_t{1},
                                   std::multiplies<>());
    int number = static_cast<int>(b.stage().parameters.size());
    b.parameter(name, shape,
                b.buffer(name, fb::MemoryClass::Parameters, size * 4));
    for (auto role : {fb::StateRole::Moment1, fb::StateRole::Moment2,
                      fb::StateRole::Gradient}) {
      auto state = std::make_unique<fb::StateT>();
      state->name = absl::StrCat(name, ".", static_cast<int>(role));
      state->role = role;
      state->parameter = number;
      state->buffer =
          b.buffer(state->name, fb::MemoryClass::Optimizer, size * 4);
      b.stage().states.push_back(std::move(state));
    }
  }
  return test::finishPlan(b.plan);
}

class MixingExecutor final : public Executor {
public:
  MixingExecutor(const fb::Plan& plan, Fabric& fabric, std::set<int> badSteps)
      : plan_(plan), coordinates_(coordinatesOfRank(plan, fabric.rank())),
        badSteps_(std::move(badSteps)) {
    std::vector<int> everyone(fabric.size());
    std::iota(everyone.begin(), everyone.end(), 0);
    all_ = *fabric.createCommunicator(everyone);
    size_t inputBytes = kBatch / fabric.size() * kRows * sizeof(int32_t);
    for (const char* name : kNames)
      inputs_[name].resize(inputBytes);
    inputs_["hyper"].resize(16 * sizeof(float));
    const fb::Stage* stage = plan.stages()->Get(0);
    for (const fb::Parameter* p : *stage->parameters())
      parameters_.emplace_back(stage->buffers()->Get(p->buffer())->size_bytes(),
                               uint8_t{0});
    for (const fb::State* s : *stage->states())
      states_.emplace_back(stage->buffers()->Get(s->buffer())->size_bytes(),
                           uint8_t{0});
  }

  /// A loss of 1 + 1/8 for each step taken, and a count of counted labels.
  absl::Status executeEvaluation(ExecuteStatistics*) override {
    const auto* labels =
        reinterpret_cast<const int32_t*>(inputs_["labels"].data());
    double own = 0;
    for (size_t i = 0; i < inputs_["labels"].size() / 4; ++i)
      own += labels[i] >= 0;
    std::vector<double> sums(all_->size());
    LLMRT_RETURN_IF_ERROR(all_->allGather(&own, sums.data(), sizeof(own), {}));
    count_ = static_cast<float>(std::accumulate(sums.begin(), sums.end(), 0.0));
    loss_ = 1.0f + 0.125f * static_cast<float>(numSteps_);
    return absl::OkStatus();
  }

  absl::Status reloadWeights(const std::vector<WeightLocation>&) override {
    return absl::OkStatus();
  }

  absl::Status executeStep(ExecuteStatistics*) override {
    // A position-dependent sum of this rank's inputs, added in rank order.
    double own = 0;
    for (const char* name : kNames) {
      const auto* values =
          reinterpret_cast<const int32_t*>(inputs_[name].data());
      size_t count = inputs_[name].size() / 4;
      for (size_t i = 0; i < count; ++i)
        own += values[i] * ((i % kRows + 1) * 0.25);
    }
    std::vector<double> sums(all_->size());
    LLMRT_RETURN_IF_ERROR(all_->allGather(&own, sums.data(), sizeof(own), {}));
    double total = std::accumulate(sums.begin(), sums.end(), 0.0);
    const float* hyper =
        reinterpret_cast<const float*>(inputs_["hyper"].data());
    bool isBad = badSteps_.count(++numSteps_) > 0;
    auto* w = reinterpret_cast<float*>(parameters_[0].data());
    loss_ = static_cast<float>(total * 1e-3 + w[3]);
    norm_[0] = isBad ? INFINITY : static_cast<float>(std::abs(total) + w[0]);
    norm_[2] = isBad ? 0 : 1;
    for (size_t s = 0; s < states_.size(); ++s)
      update(s, isBad, hyper);
    return absl::OkStatus();
  }

  absl::Span<uint8_t> stepInput(absl::string_view name) override {
    auto found = inputs_.find(std::string(name));
    if (found == inputs_.end())
      return {};
    return absl::MakeSpan(found->second);
  }

  absl::Span<const uint8_t> stepOutput(absl::string_view name) const override {
    if (name == "loss")
      return {reinterpret_cast<const uint8_t*>(&loss_), sizeof(loss_)};
    if (name == "norm")
      return {reinterpret_cast<const uint8_t*>(norm_), sizeof(norm_)};
    if (name == "count")
      return {reinterpret_cast<const uint8_t*>(&count_), sizeof(count_)};
    return {};
  }

  absl::Span<uint8_t> parameterMemory(int p) override {
    return absl::MakeSpan(parameters_[p]);
  }

  absl::Span<uint8_t> stateMemory(int s) override {
    return absl::MakeSpan(states_[s]);
  }

  absl::Status initialise() override { return absl::OkStatus(); }

  int findEntry(absl::string_view) const override { return -1; }

  absl::Span<uint8_t> input(int, absl::string_view) override { return {}; }

  absl::Span<const uint8_t> output(int, absl::string_view) const override {
    return {};
  }

  absl::Status execute(int, int64_t, ExecuteStatistics*) override {
    return absl::UnimplementedError("");
  }

  int stage() const override { return 0; }

  absl::Span<const int> coordinates() const override { return coordinates_; }

  std::string recorderDump() const override { return ""; }

private:
  // States are moment1, moment2 and gradient of each parameter in turn.
  void update(size_t s, bool isBad, const float* hyper) {
    auto* values = reinterpret_cast<float*>(states_[s].data());
    size_t count = states_[s].size() / 4;
    auto* weights = reinterpret_cast<float*>(parameters_[s / 3].data());
    for (size_t i = 0; i < count; ++i) {
      if (s % 3 == 2) {
        values[i] = isBad && s == 5 && i == 2 ? NAN : loss_;
      } else if (!isBad) {
        values[i] = values[i] * hyper[1 + s % 3] + loss_ + i + s;
        if (s % 3 == 1)
          weights[i] += hyper[0] * values[i] / hyper[5];
      }
    }
  }

  const fb::Plan& plan_;
  std::vector<int> coordinates_;
  std::set<int> badSteps_;
  std::unique_ptr<Communicator> all_;
  std::map<std::string, std::vector<uint8_t>> inputs_;
  std::vector<std::vector<uint8_t>> parameters_, states_;
  int numSteps_ = 0;
  float loss_ = 0, norm_[4] = {};
  float count_ = float{kBatch * kRows};
};

class Recorder final : public TrainingObserver {
public:
  bool isStopRequested() override { return ++numAsked == stopAfter; }

  absl::Status begin(const std::optional<ResumeReport>& resumed) override {
    resume = resumed;
    return absl::OkStatus();
  }

  absl::Status takeStep(const StepReport& step) override {
    steps.push_back(step);
    return absl::OkStatus();
  }

  absl::Status takeSave(const CheckpointResult&, int64_t step) override {
    saves.push_back(step);
    return absl::OkStatus();
  }

  int stopAfter = -1, numAsked = 0;
  std::optional<ResumeReport> resume;
  std::vector<StepReport> steps;
  std::vector<int64_t> saves;
};

struct Request {
  int dp = 1;
  int microBatches = 1;
  int64_t totalSteps = 10;
  int64_t saveEvery = 0;
  bool isResumed = false;
  bool hasFolder = true;
  uint64_t seed = 3;
  int stopRank = -1; // which asks to stop after its fourth step
  std::set<int> badSteps = {};
  std::string data = "data";
};

struct Result {
  absl::Status status;
  TrainingEnd end = TrainingEnd::Finished;
  Recorder rankZero;

  std::vector<double> losses() const {
    std::vector<double> all;
    for (const StepReport& step : rankZero.steps)
      all.push_back(step.loss);
    return all;
  }
};

class Loop : public ::testing::Test {
protected:
  void SetUp() override {
    folder_ =
        ::testing::TempDir() + "/training-loop-" + std::to_string(getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    TokenFileHeader header;
    header.vocabSize = 50;
    auto writer = TokenFileWriter::create(folder_ + "/tokens", header);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (int document = 0; document < 40; ++document) {
      SampleTokens sample;
      for (int i = 0; i < 5 + document % 9; ++i)
        sample.ids.push_back((document * 13 + i * 7) % 50);
      ASSERT_TRUE(writer->append(sample, 0, document + 1).ok());
    }
    ASSERT_TRUE(writer->commit({{}}).ok());
  }

  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<TrainingEnd> runRank(const fb::Plan& plan, Fabric& fabric,
                                      const Request& request,
                                      Recorder& recorder) {
    MixingExecutor executor(plan, fabric, request.badSteps);
    LLMRT_ASSIGN_OR_RETURN(TokenFile file,
                           TokenFile::open(folder_ + "/tokens"));
    LLMRT_ASSIGN_OR_RETURN(
        BatchSource data,
        BatchSource::create(std::move(file), {"x"},
                            {.numRows = kRows, .seed = request.seed}));
    LLMRT_ASSIGN_OR_RETURN(
        LearningRateSchedule schedule,
        LearningRateSchedule::create(
            {.shape = ScheduleShape::Linear, .peak = 1e-3, .totalSteps = 20}));
    TrainingSettings settings{
        .optimizer = {.beta1 = 0.5, .beta2 = 0.75, .weightDecay = 0.1},
        .schedule = schedule,
        .totalSteps = request.totalSteps,
        .mostSkippedInRow = 2,
        .identity = {.seed = request.seed, .data = request.data},
        .checkpointFolder = request.hasFolder ? folder_ + "/run" : "",
        .saveEvery = request.saveEvery,
        .isResumed = request.isResumed};
    LLMRT_ASSIGN_OR_RETURN(
        auto loop,
        TrainingLoop::create(plan, executor, fabric, data, settings, recorder));
    return loop->run();
  }

  Result run(const Request& request) {
    test::PlanBytes bytes = makePlan(request.dp, request.microBatches);
    auto plan = readPlan(bytes);
    EXPECT_TRUE(plan.ok()) << plan.status();
    auto fabrics = createLocalFabrics(request.dp, {.timeoutSeconds = 20});
    std::vector<Recorder> recorders(request.dp);
    std::vector<absl::StatusOr<TrainingEnd>> ends(request.dp,
                                                  TrainingEnd::Finished);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < request.dp; ++rank) {
      if (rank == request.stopRank)
        recorders[rank].stopAfter = 4;
      threads.emplace_back([&, rank] {
        ends[rank] = runRank(**plan, *fabrics[rank], request, recorders[rank]);
        if (!ends[rank].ok())
          fabrics[rank]->abort(ends[rank].status());
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    for (int rank = 1; rank < request.dp; ++rank)
      EXPECT_EQ(ends[rank].ok(), ends[0].ok());
    Result result{ends[0].status(), ends[0].value_or(TrainingEnd::Finished),
                  std::move(recorders[0])};
    return result;
  }

  std::string folder_;
};

TEST_F(Loop, FeedsTheSameWhateverTheSplit) {
  std::vector<double> losses = run({.hasFolder = false}).losses();
  ASSERT_EQ(losses.size(), 10u);
  EXPECT_EQ(std::set<double>(losses.begin(), losses.end()).size(), 10u);
  for (auto [dp, microBatches] :
       {std::pair{1, 4}, std::pair{2, 1}, std::pair{2, 3}, std::pair{3, 2}}) {
    std::vector<double> other =
        run({.dp = dp, .microBatches = microBatches, .hasFolder = false})
            .losses();
    ASSERT_EQ(other.size(), losses.size());
    for (size_t i = 0; i < losses.size(); ++i)
      EXPECT_NEAR(other[i], losses[i], 1e-5 * std::abs(losses[i]))
          << dp << " x " << microBatches << ", step " << i;
  }
}

TEST_F(Loop, ResumesBitIdentically) {
  std::vector<double> straight = run({.hasFolder = false}).losses();
  Result first = run({.totalSteps = 5, .saveEvery = 2});
  EXPECT_TRUE(first.status.ok()) << first.status;
  EXPECT_THAT(first.rankZero.saves, ElementsAre(2, 4, 5));
  Result second = run({.isResumed = true});
  ASSERT_TRUE(second.status.ok()) << second.status;
  EXPECT_EQ(second.rankZero.resume->position.step, 5);
  EXPECT_EQ(second.rankZero.resume->position.sequences, 5 * kBatch);
  std::vector<double> joined = first.losses();
  for (double loss : second.losses())
    joined.push_back(loss);
  EXPECT_EQ(joined, straight);
  // Nothing is left to do, and nothing is saved again.
  Result third = run({.isResumed = true});
  EXPECT_TRUE(third.rankZero.steps.empty());
  EXPECT_TRUE(third.rankZero.saves.empty());
}

TEST_F(Loop, ResumesOnAnotherMesh) {
  std::vector<double> straight = run({.hasFolder = false}).losses();
  ASSERT_TRUE(run({.dp = 3, .totalSteps = 5}).status.ok());
  Result rest = run({.dp = 2, .microBatches = 3, .isResumed = true});
  ASSERT_TRUE(rest.status.ok()) << rest.status;
  ASSERT_EQ(rest.losses().size(), 5u);
  for (size_t i = 0; i < 5; ++i)
    EXPECT_NEAR(rest.losses()[i], straight[5 + i],
                1e-5 * std::abs(straight[5 + i]));
}

TEST_F(Loop, OneRankStopsAllAfterTheSameStep) {
  Result result = run({.dp = 3, .totalSteps = 1000, .stopRank = 2});
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.end, TrainingEnd::Stopped);
  EXPECT_EQ(result.rankZero.steps.size(), 4u);
  EXPECT_THAT(result.rankZero.saves, ElementsAre(4));
}

// A skipped step uses up data and a step of the schedule, and no update.
TEST_F(Loop, SkipsStepsThatAreNotFinite) {
  Result result = run({.dp = 2, .totalSteps = 6, .badSteps = {2, 4}});
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.rankZero.steps[1].isSkipped, true);
  EXPECT_EQ(result.rankZero.steps[2].isSkipped, false);
  TrainingPosition after = result.rankZero.steps.back().after;
  EXPECT_EQ(after.step, 6);
  EXPECT_EQ(after.updates, 4);
  EXPECT_EQ(after.skipped, 2);
  EXPECT_EQ(after.sequences, 6 * kBatch);
  Result resumed = run({.dp = 2, .totalSteps = 7, .isResumed = true});
  EXPECT_EQ(resumed.rankZero.steps.back().after.updates, 5);
  EXPECT_EQ(resumed.rankZero.steps.back().after.skipped, 2);
}

TEST_F(Loop, EndsAfterSeveralInARowAndNamesTheParameter) {
  Result result = run({.totalSteps = 9, .badSteps = {3, 4, 5}});
  EXPECT_THAT(result.status.message(), HasSubstr("LLMC-E1309"));
  EXPECT_THAT(result.status.message(), HasSubstr("gradient of bias"));
  EXPECT_EQ(result.rankZero.steps.size(), 4u);
}

TEST_F(Loop, RefusesWhatWouldMixRuns) {
  ASSERT_TRUE(run({.totalSteps = 1}).status.ok());
  EXPECT_THAT(run({}).status.message(), HasSubstr("LLMC-E1314"));
  EXPECT_THAT(run({.isResumed = true, .seed = 4}).status.message(),
              HasSubstr("give --seed=3"));
  EXPECT_THAT(run({.isResumed = true, .data = "other"}).status.message(),
              HasSubstr("LLMC-E1313"));
}

} // namespace
} // namespace llmrt
