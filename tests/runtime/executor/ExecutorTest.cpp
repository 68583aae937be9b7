// SPDX-License-Identifier: Apache-2.0
// Hand-built plans on one to three local ranks: launches, collectives, events,
// overlap.
#include "runtime/base/Philox.h"
#include "tests/runtime/executor/RunRanks.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using test::inputAs;
using test::outputAs;
using test::PlanBuilder;
using test::RunOptions;
using test::runRanks;
using ::testing::HasSubstr;

RunOptions randomWeights(int seed = 1) {
  RunOptions options;
  options.executor.weights = {{"model", absl::StrCat("random:", seed)}};
  return options;
}

// logits = embed[ids] * head^T in double.
std::vector<double> tinyLogits(std::vector<int> ids, int seed) {
  std::vector<double> logits;
  for (int id : ids)
    for (int v = 0; v < 7; ++v) {
      double sum = 0;
      for (int c = 0; c < 5; ++c)
        sum += double(normal(seed, philoxStream("embed.weight"), id * 5 + c)) *
               normal(seed, philoxStream("head.weight"), v * 5 + c);
      logits.push_back(sum);
    }
  return logits;
}

void expectNear(const std::vector<float>& got,
                const std::vector<double>& wanted) {
  ASSERT_GE(got.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], 1e-5) << i;
}

TEST(Executor, RunsAWholeModelOnOneRank) {
  test::expectAllOk(
      runRanks(test::tinyModel().plan, randomWeights(), [](Executor& e) {
        int prefill = e.findEntry("prefill");
        EXPECT_EQ(e.findEntry("nothing"), -1);
        EXPECT_TRUE(e.input(prefill, "nothing").empty());
        std::vector<int> ids = {3, 0, 6};
        std::copy(ids.begin(), ids.end(),
                  inputAs<int32_t>(e, prefill, "ids").begin());
        ExecuteStatistics statistics;
        absl::Status status = e.execute(prefill, 3, &statistics);
        if (!status.ok())
          return status;
        EXPECT_EQ(statistics.commands, 2);
        expectNear(outputAs<float>(e, prefill, "logits"), tinyLogits(ids, 1));
        // Fewer valid rows leave the other rows alone.
        std::vector<float> before = outputAs<float>(e, prefill, "logits");
        inputAs<int32_t>(e, prefill, "ids")[0] = 5;
        status = e.execute(prefill, 1, nullptr);
        std::vector<float> after = outputAs<float>(e, prefill, "logits");
        expectNear(after, tinyLogits({5}, 1));
        EXPECT_TRUE(
            std::equal(after.begin() + 7, after.end(), before.begin() + 7));
        int decode = e.findEntry("decode");
        inputAs<int32_t>(e, decode, "ids")[0] = 2;
        status.Update(e.execute(decode, 1, nullptr));
        expectNear(outputAs<float>(e, decode, "logits"), tinyLogits({2}, 1));
        EXPECT_THAT(e.recorderDump(), HasSubstr("linear"));
        EXPECT_FALSE(e.execute(decode, 2, nullptr).ok());
        EXPECT_FALSE(e.execute(7, 1, nullptr).ok());
        return status;
      }));
}

TEST(Executor, ThreadsDoNotChangeABit) {
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 5}) {
    RunOptions options = randomWeights();
    options.executor.numThreads = threads;
    test::expectAllOk(
        runRanks(test::tinyModel().plan, options, [&](Executor& e) {
          auto ids = inputAs<int32_t>(e, 0, "ids");
          for (int i = 0; i < 3; ++i)
            ids[i] = i + 1;
          absl::Status status = e.execute(0, 3, nullptr);
          results.push_back(outputAs<float>(e, 0, "logits"));
          return status;
        }));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(Executor, MemoryIsWhatThePlanSays) {
  PlanBuilder b = test::tinyModel();
  auto row = std::make_unique<fb::MemoryRowT>();
  row->memory_class = fb::MemoryClass::Parameters;
  row->size_bytes = 780; // 7 * 5 and 32 * 5 elements
  b.plan.memory.push_back(std::move(row));
  int64_t arenaBytes = b.stage().arenas[0]->size_bytes;
  test::expectAllOk(runRanks(b.plan, randomWeights(), [&](Executor& e) {
    MemoryReport report = e.memory();
    EXPECT_EQ(report.arenaBytes, arenaBytes);
    EXPECT_EQ(report.planned[0], 780);
    EXPECT_EQ(report.outside[static_cast<int>(MemoryClass::Workspace)], 0);
    EXPECT_GT(report.outside[static_cast<int>(MemoryClass::Library)], 0);
    return absl::OkStatus();
  }));
}

TEST(Executor, RefusesMoreThanThePlanAllows) {
  for (auto [memoryClass, name] :
       {std::pair(fb::MemoryClass::Code, "code"),
        std::pair(fb::MemoryClass::Library, "library")}) {
    PlanBuilder b = test::tinyModel();
    auto row = std::make_unique<fb::MemoryRowT>();
    row->memory_class = memoryClass;
    row->size_bytes = 100;
    b.plan.memory.push_back(std::move(row));
    EXPECT_THAT(runRanks(b.plan, {}, {})[0].message(),
                ::testing::AllOf(HasSubstr("LLMC-E0807"), HasSubstr(name)));
  }
}

TEST(Executor, RefusesAnotherNumberOfRanks) {
  auto file = test::finishPlan(test::tinyModel().plan);
  auto plan = readPlan(file);
  auto fabrics = createLocalFabrics(2, {});
  auto executor = Executor::create(**plan, *fabrics[0], {});
  EXPECT_THAT(executor.status().message(),
              HasSubstr("LLMC-E0605: the plan is for 1 ranks (mesh tp=1), 2 "
                        "are running"));
}

TEST(Executor, RefusesAnotherTarget) {
  PlanBuilder b = test::tinyModel();
  b.plan.target = "cuda";
  EXPECT_THAT(runRanks(b.plan, {}, {})[0].message(), HasSubstr("LLMC-E0805"));
}

TEST(Executor, RefusesAnArenaLargerThanTheMachine) {
  PlanBuilder b = test::tinyModel();
  b.stage().arenas[0]->size_bytes = int64_t{1} << 49;
  EXPECT_THAT(runRanks(b.plan, {}, {})[0].message(), HasSubstr("LLMC-E0803"));
}

TEST(Executor, RefusesCodeForABetterProcessor) {
  PlanBuilder b = test::tinyModel();
  b.plan.kernels.push_back(std::make_unique<fb::KernelT>());
  b.plan.kernels.back()->kind = fb::KernelKind::Generated;
  b.plan.kernels.back()->name = "add";
  b.plan.code.push_back(std::make_unique<fb::CodeObjectT>());
  b.plan.code.back()->target = "cpu";
  b.plan.code.back()->image = {1, 2, 3};
  b.plan.code.back()->level = 9;
  EXPECT_THAT(runRanks(b.plan, {}, {})[0].message(), HasSubstr("LLMC-E0801"));
  b.plan.code.back()->level = 0;
  EXPECT_THAT(runRanks(b.plan, {}, {})[0].message(), HasSubstr("LLMC-E0804"));
}

/// A plan whose only parameter-free work is communication on `small` [4] f32
/// and `large` [4 * ranks] f32; the input `temperature` is `small`.
struct Communication {
  PlanBuilder b;
  int entry, small, large;

  explicit Communication(std::vector<std::pair<std::string, int>> axes)
      : b(std::move(axes)) {
    int ranks = 1;
    for (auto& axis : b.plan.axes)
      ranks *= axis->size;
    entry = b.entry("decode", 4, 1);
    for (size_t s = 0; s < b.plan.stages.size(); ++s) {
      b.select(s);
      small = b.buffer("small", fb::MemoryClass::Inputs, 16);
      large = b.buffer("large", fb::MemoryClass::Outputs, 16 * ranks);
      b.input(entry, "temperature", small, fb::ElementType::F32, {4});
      b.output(entry, "logits", large, fb::ElementType::F32, {4 * ranks});
    }
    b.select(0);
  }
};

int rankOf(const Executor& e, const std::vector<int>& sizes) {
  int rank = 0;
  for (size_t i = 0; i < sizes.size(); ++i)
    rank = rank * sizes[i] + e.coordinates()[i];
  return rank;
}

// Each rank gives 10 * rank + 0..3.
void fillSmall(Executor& e, int rank) {
  auto small = inputAs<float>(e, 0, "temperature");
  for (int i = 0; i < 4; ++i)
    small[i] = 10.0f * rank + i;
}

TEST(Executor, GathersAlongAnAxisOnEitherStream) {
  for (int stream : {0, 1}) {
    Communication c({{"dp", 2}, {"tp", 2}});
    c.b.collective(0, fb::CommandKind::AllGather, {1}, c.small, c.large, 16,
                   stream);
    test::expectAllOk(runRanks(c.b.plan, {}, [](Executor& e) {
      int rank = rankOf(e, {2, 2});
      fillSmall(e, rank);
      absl::Status status = e.execute(0, 4, nullptr);
      std::vector<float> large = outputAs<float>(e, 0, "logits");
      for (int i = 0; i < 8; ++i)
        EXPECT_EQ(large[i], 10 * (rank / 2 * 2 + i / 4) + i % 4);
      EXPECT_THAT(e.recorderDump(), HasSubstr("layers.0.weight"));
      return status;
    }));
  }
}

TEST(Executor, RunsEveryCollective) {
  using enum fb::CommandKind;
  Communication c({{"tp", 3}});
  int other = c.b.buffer("other", fb::MemoryClass::Communication, 64);
  c.b.collective(0, AllGather, {0}, c.small, c.large, 16, 1);
  c.b.collective(0, ReduceScatter, {0}, c.large, other, 16); // 3 * own
  c.b.collective(0, AllReduce, {0}, -1, other, 16);          // 3 * sum
  c.b.collective(0, Broadcast, {0}, c.small, c.small, 16).root = 2;
  c.b.copy(0, other, c.large, 16).send_offset = test::values(-1, {0});
  fb::CommandT& copy = c.b.copy(0, c.large, c.large, 16, 1);
  copy.send_offset = test::values(0, {0, 0, 16});
  c.b.record(0, 0, 1);
  c.b.wait(0, 0, 0);
  test::expectAllOk(runRanks(c.b.plan, {}, [](Executor& e) {
    fillSmall(e, e.coordinates()[0]);
    absl::Status status = e.execute(0, 4, nullptr);
    std::vector<float> large = outputAs<float>(e, 0, "logits");
    for (int i = 0; i < 4; ++i) {
      float sum = 3 * (10 * (0 + 1 + 2) + 3 * i);
      EXPECT_EQ(large[i], e.coordinates()[0] == 2 ? 10 + i : sum);
      EXPECT_EQ(inputAs<float>(e, 0, "temperature")[i], 20 + i);
    }
    return status;
  }));
}

TEST(Executor, PassesAlongAPipeline) {
  using enum fb::CommandKind;
  Communication c({{"pp", 3}});
  for (int stage : {0, 1, 2}) {
    c.b.select(stage);
    if (stage > 0)
      c.b.collective(0, Recv, {0}, -1, c.small, 16).peer = stage - 1;
    if (stage < 2)
      c.b.collective(0, Send, {0}, c.small, -1, 16).peer = stage + 1;
    c.b.copy(0, c.small, c.large, 16);
  }
  test::expectAllOk(runRanks(c.b.plan, {}, [](Executor& e) {
    fillSmall(e, 5 + e.stage());
    absl::Status status = e.execute(0, 4, nullptr);
    EXPECT_EQ(outputAs<float>(e, 0, "logits")[3], 53);
    return status;
  }));
}

TEST(Executor, CollectivesOfOneRankAreCopies) {
  using enum fb::CommandKind;
  Communication c({{"tp", 1}});
  c.b.collective(0, AllGather, {0}, c.small, c.large, 16, 1);
  c.b.collective(0, AllReduce, {0}, -1, c.large, 16);
  test::expectAllOk(runRanks(c.b.plan, {}, [](Executor& e) {
    fillSmall(e, 7);
    absl::Status status = e.execute(0, 4, nullptr);
    EXPECT_EQ(outputAs<float>(e, 0, "logits")[3], 73);
    return status;
  }));
}

// Communication on stream 1 goes on while stream 0 computes, until the event:
// which came first is looked at, not how long it took.
TEST(Executor, StreamsOverlap) {
  constexpr double kLinkSeconds = 0.5; // far more than a launch takes
  for (bool waitsAtOnce : {false, true}) {
    Communication c({{"tp", 2}});
    int rope = c.b.kernel("rope_table", 1, 0);
    constexpr int64_t kPositions = 4;
    int table = c.b.buffer("table", fb::MemoryClass::Activations,
                           kPositions * 2 * 32 * 4);
    c.b.collective(0, fb::CommandKind::AllGather, {0}, c.small, c.large, 16, 1);
    c.b.record(0, 0, 1);
    if (waitsAtOnce)
      c.b.wait(0, 0, 0);
    std::vector<fb::WordT> words;
    words.push_back(test::integer(kPositions));
    words.push_back(test::address(table));
    words.push_back(test::integer(64));
    words.push_back(test::real(10000.0));
    words.push_back(test::integer(0));
    for (int i = 0; i < 4; ++i)
      words.push_back(test::real(1.0));
    c.b.launch(0, rope, std::move(words), test::integer(kPositions), 1);
    if (!waitsAtOnce)
      c.b.wait(0, 0, 0);
    RunOptions options;
    options.fabric.link.latencySeconds = kLinkSeconds;
    options.executor.keepTimeline = true;
    test::expectAllOk(runRanks(c.b.plan, options, [&](Executor& e) {
      fillSmall(e, 1);
      ExecuteStatistics s;
      absl::Status status = e.execute(0, 4, &s);
      EXPECT_GE(s.seconds, kLinkSeconds);
      EXPECT_GE(s.communicationSeconds, kLinkSeconds);
      EXPECT_GT(s.waitSeconds, 0);
      std::unique_ptr<Timeline> timeline = e.takeTimeline();
      const TimelineEvent *launch = nullptr, *wait = nullptr;
      for (const TimelineEvent& event : timeline->row(TimelineRow::Compute))
        (event.isWait ? wait : launch) = &event;
      const auto& flights = timeline->row(TimelineRow::Communication);
      if (!launch || !wait || flights.size() != 1)
        return absl::InternalError("the timeline lacks a command");
      EXPECT_GE(wait->end, flights[0].end);
      // What the link does while kernels run is not waited for.
      if (waitsAtOnce)
        EXPECT_GE(launch->begin, flights[0].end);
      else
        EXPECT_LT(launch->end, flights[0].end);
      return status;
    }));
  }
}

// A collective of stream 0 behind one of stream 1: one order on all ranks.
TEST(Executor, KeepsOneOrderOfCommunication) {
  Communication c({{"tp", 2}});
  for (int i = 0; i < 50; ++i) {
    c.b.collective(0, fb::CommandKind::AllGather, {0}, c.small, c.large, 16, 1);
    c.b.collective(0, fb::CommandKind::AllReduce, {0}, -1, c.small, 16, 0);
  }
  test::expectAllOk(runRanks(c.b.plan, {}, [](Executor& e) {
    auto small = inputAs<float>(e, 0, "temperature");
    std::fill(small.begin(), small.end(), 0x1p-50f);
    absl::Status status = e.execute(0, 4, nullptr);
    EXPECT_EQ(small[0], 1.0f);
    EXPECT_EQ(outputAs<float>(e, 0, "logits")[7], 0.5f);
    return status;
  }));
}

TEST(Executor, AFailingRankEndsTheOthers) {
  Communication c({{"tp", 2}});
  c.b.collective(0, fb::CommandKind::AllReduce, {0}, -1, c.small, 16, 1);
  RunOptions options;
  options.fabric.timeoutSeconds = 0.2;
  std::vector<absl::Status> statuses =
      runRanks(c.b.plan, options, [](Executor& e) {
        if (e.coordinates()[0] == 1)
          std::this_thread::sleep_for(std::chrono::milliseconds(600));
        return e.execute(0, 4, nullptr);
      });
  for (const absl::Status& status : statuses) {
    EXPECT_THAT(status.message(), HasSubstr("LLMC-E0701")); // time-out
    EXPECT_THAT(status.message(), HasSubstr("layers.0.weight"));
    EXPECT_THAT(status.message(), HasSubstr("by-hand"));
  }
}

TEST(Executor, AMissingWeightOnOneRankEndsTheOthers) {
  // The ranks load different parts; only rank 1 has no initialiser here.
  Communication c({{"pp", 2}});
  c.b.select(1);
  int w = c.b.buffer("w", fb::MemoryClass::Parameters, 16);
  c.b.parameter("w", {4}, w).init = fb::InitKind::None;
  for (int stage : {0, 1}) {
    c.b.select(stage);
    c.b.collective(0, fb::CommandKind::AllReduce, {0}, -1, c.small, 16);
  }
  std::vector<absl::Status> statuses =
      runRanks(c.b.plan, randomWeights(),
               [](Executor& e) { return e.execute(0, 4, nullptr); });
  EXPECT_THAT(statuses[0].message(), HasSubstr("LLMC-E0922"));
  EXPECT_THAT(statuses[1].message(),
              HasSubstr("LLMC-E0922: parameter w has no initialiser"));
}

} // namespace
} // namespace llmrt
