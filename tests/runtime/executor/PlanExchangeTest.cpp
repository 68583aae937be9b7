// SPDX-License-Identifier: Apache-2.0
// A plan whose pipeline stages would wait for one another for ever is refused
// when it is read; one that is accepted runs to its end.
#include "tests/runtime/executor/RunRanks.h"

#include <gmock/gmock.h>

#include <functional>
#include <random>

namespace llmrt {
namespace {

using enum fb::CommandKind;
using ::testing::HasSubstr;

constexpr int kNumStages = 3;

/// Three stages: values go up, one goes back, a token is broadcast and a sum
/// made; two of the commands on the other stream.
test::PlanBuilder pipeline() {
  test::PlanBuilder b({{"pp", kNumStages}});
  const int entry = b.entry("decode", 1, 4);
  for (int stage = 0; stage < kNumStages; ++stage) {
    b.select(stage);
    const int in = b.buffer("in", fb::MemoryClass::Activations, 64);
    const int out = b.buffer("out", fb::MemoryClass::Activations, 64);
    auto send = [&](int peer, int64_t bytes, int stream = 0) {
      b.collective(entry, Send, {0}, in, -1, bytes, stream).peer = peer;
    };
    auto receive = [&](int peer, int64_t bytes, int stream = 0) {
      b.collective(entry, Recv, {0}, -1, out, bytes, stream).peer = peer;
    };
    if (stage > 0) {
      receive(stage - 1, 16);
      receive(stage - 1, 32, 1);
    }
    if (stage < kNumStages - 1) {
      send(stage + 1, 16);
      send(stage + 1, 32, 1);
    }
    b.collective(entry, Broadcast, {0}, -1, out, 16).root = kNumStages - 1;
    if (stage == kNumStages - 1)
      send(0, 48);
    if (stage == 0)
      receive(kNumStages - 1, 48);
    fb::CommandT& exchange = b.collective(entry, Exchange, {0}, in, out, 16);
    exchange.peer = (stage + 1) % kNumStages;
    exchange.recv_peer = (stage + kNumStages - 1) % kNumStages;
    b.collective(entry, AllReduce, {0}, -1, out, 16);
  }
  return b;
}

using Commands = std::vector<std::unique_ptr<fb::CommandT>>;

Commands& commandsOf(fb::PlanT& plan, int stage) {
  return plan.stages[stage]->programs[0]->commands;
}

std::string refusalOf(const fb::PlanT& plan) {
  test::PlanBytes file = test::finishPlan(plan);
  auto read = readPlan(file);
  return read.ok() ? "" : std::string(read.status().message());
}

TEST(PlanExchange, AcceptsAPipeline) {
  EXPECT_EQ(refusalOf(pipeline().plan), "");
}

struct Fault {
  const char* message;
  std::function<void(fb::PlanT&)> spoil;
};

TEST(PlanExchange, SaysWhoWaits) {
  const Fault faults[] = {
      {"stage 0 waits in Send number 1 to stage 1 (32 bytes)",
       [](fb::PlanT& plan) {
         commandsOf(plan, 1).erase(commandsOf(plan, 1).begin() + 1);
       }},
      {"stage 0 waits in Send number 0 to stage 1 (16 bytes); stage 1 waits in "
       "Recv number 0 from stage 0 (32 bytes)",
       [](fb::PlanT& plan) {
         std::swap(commandsOf(plan, 1)[0], commandsOf(plan, 1)[1]);
       }},
      {"stage 0 waits in Send number 0 to stage 2",
       [](fb::PlanT& plan) { commandsOf(plan, 0)[0]->peer = 2; }},
      {"waits in Broadcast",
       [](fb::PlanT& plan) { commandsOf(plan, 0)[2]->root = 1; }},
      {"waits in Exchange",
       [](fb::PlanT& plan) { commandsOf(plan, 0)[4]->recv_peer = 1; }},
      {"waits in AllReduce",
       [](fb::PlanT& plan) { commandsOf(plan, 2).back()->bytes = 32; }},
      {"stages[1].programs[0].commands[0]: nobody receives what every rank",
       [](fb::PlanT& plan) {
         plan.axes.push_back(std::make_unique<fb::AxisT>());
         plan.axes.back()->name = "tp";
         plan.axes.back()->size = 2;
         commandsOf(plan, 1)[0]->axes = {1};
       }},
  };
  for (const Fault& fault : faults) {
    test::PlanBuilder b = pipeline();
    fault.spoil(b.plan);
    EXPECT_THAT(refusalOf(b.plan), HasSubstr(fault.message));
    EXPECT_THAT(refusalOf(b.plan), HasSubstr("LLMC-E"));
  }
}

// The initialise program is a call of its own.
TEST(PlanExchange, LooksAtWhatRunsAfterLoading) {
  test::PlanBuilder b = pipeline();
  b.select(0);
  b.collective(-1, Send, {0}, 0, -1, 16).peer = 1;
  EXPECT_THAT(refusalOf(b.plan), HasSubstr("initialise: ranks wait for ever"));
  b.select(1);
  b.collective(-1, Recv, {0}, -1, 0, 16).peer = 0;
  EXPECT_EQ(refusalOf(b.plan), "");
}

/// Runs a plan that the reader has not seen; true if every rank comes to the
/// end.
bool runsToTheEnd(const fb::PlanT& plan, double timeoutSeconds) {
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fb::Plan::Pack(builder, &plan));
  const fb::Plan& unread = *fb::GetPlan(builder.GetBufferPointer());
  FabricOptions options;
  options.timeoutSeconds = timeoutSeconds;
  bool isAtTheEnd = true;
  for (const absl::Status& status :
       test::runRanks(unread, {.executor = {}, .fabric = options},
                      [](Executor& e) { return e.execute(0, 4, nullptr); }))
    isAtTheEnd = isAtTheEnd && status.ok();
  return isAtTheEnd;
}

/// Drops, repeats, moves or re-addresses one command.
void mutate(fb::PlanT& plan, std::mt19937& random) {
  auto pick = [&](size_t count) {
    return static_cast<size_t>(random() % count);
  };
  Commands& commands = commandsOf(plan, pick(kNumStages));
  const size_t at = pick(commands.size());
  switch (pick(4)) {
  case 0:
    commands.erase(commands.begin() + at);
    break;
  case 1:
    commands.insert(commands.begin() + at,
                    std::make_unique<fb::CommandT>(*commands[at]));
    break;
  case 2:
    std::swap(commands[at], commands[pick(commands.size())]);
    break;
  default:
    commands[at]->peer = pick(kNumStages);
    commands[at]->root = pick(kNumStages);
  }
}

TEST(PlanExchange, RefusesExactlyTheMutantsThatHang) {
  constexpr int kMutants = 120;
  constexpr int kMostHanging = 6; // each takes its time limit
  int numAccepted = 0, numHanging = 0;
  for (int mutant = 0; mutant < kMutants; ++mutant) {
    SCOPED_TRACE(mutant);
    test::PlanBuilder b = pipeline();
    std::mt19937 random(mutant);
    mutate(b.plan, random);
    const std::string refusal = refusalOf(b.plan);
    if (refusal.empty()) {
      ++numAccepted;
      EXPECT_TRUE(runsToTheEnd(b.plan, 20));
    } else if (refusal.find("wait for ever") != std::string::npos &&
               numHanging < kMostHanging) {
      ++numHanging;
      EXPECT_FALSE(runsToTheEnd(b.plan, 0.3)) << refusal;
    }
  }
  EXPECT_GT(numAccepted, 3);
  EXPECT_EQ(numHanging, kMostHanging);
}

} // namespace
} // namespace llmrt
