// SPDX-License-Identifier: Apache-2.0
// Which actions of a schedule wait for which, on a small hand-made stage.
#include "runtime/executor/StepOrder.h"

#include <gtest/gtest.h>

namespace llmrt {
namespace {

enum Entry { kForward, kBackward, kReceive, kSend };

std::unique_ptr<fb::ProgramT> program(int entry,
                                      std::vector<int> streamsOfCommands) {
  auto program = std::make_unique<fb::ProgramT>();
  program->entry = entry;
  for (int stream : streamsOfCommands) {
    program->commands.push_back(std::make_unique<fb::CommandT>());
    program->commands.back()->stream = stream;
  }
  return program;
}

/// Slots from Saved on: saved, deferred, received activation, received
/// gradient, sent activation, sent gradient.
void act(fb::StageT& stage, int entry, int microBatch, std::vector<int> slots) {
  auto action = std::make_unique<fb::ActionT>();
  action->entry = entry;
  action->micro_batch = microBatch;
  action->slots = std::move(slots);
  stage.schedule.push_back(std::move(action));
}

TEST(StepOrder, StreamsWaitForSharedSlotsOnly) {
  fb::StageT stage;
  // A segment that gathers parameters beside its kernels is no transfer.
  stage.programs.push_back(program(kForward, {0, 1, 0}));
  stage.programs.push_back(program(kBackward, {0}));
  stage.programs.push_back(program(kReceive, {1}));
  stage.programs.push_back(program(kSend, {1, 1}));
  act(stage, kReceive, 0, {-1, -1, 0, -1, -1, -1}); // 0
  act(stage, kReceive, 1, {-1, -1, 1, -1, -1, -1}); // 1
  act(stage, kForward, 0, {0, -1, 0, -1, 0, -1});   // 2
  act(stage, kSend, 0, {-1, -1, -1, -1, 0, -1});    // 3
  act(stage, kForward, 1, {1, -1, 1, -1, 1, -1});   // 4
  act(stage, kSend, 1, {-1, -1, -1, -1, 1, -1});    // 5
  act(stage, kBackward, 0, {0, -1, 0, -1, -1, -1}); // 6
  act(stage, kReceive, 2, {-1, -1, 0, -1, -1, -1}); // 7: after 6 has read
  act(stage, kForward, 2, {0, -1, 0, -1, 0, -1});   // 8: after 7, and 3 before
  act(stage, kBackward, 1, {1, -1, 1, -1, -1, -1}); // 9
  ::flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fb::Stage::Pack(builder, &stage));
  const fb::Stage& read =
      *::flatbuffers::GetRoot<fb::Stage>(builder.GetBufferPointer());
  std::vector<const fb::Action*> actions(read.schedule()->begin(),
                                         read.schedule()->end());
  std::vector<ActionOrder> order = orderActions(read, actions);

  struct Expected {
    int stream;
    int waitsFor;
    bool isAwaited;
  };

  const Expected expected[] = {
      {1, -1, true}, {1, -1, true}, {0, 0, true}, {1, 2, false}, {0, 1, true},
      {1, 4, false}, {0, 0, true},  {1, 6, true}, {0, 7, false}, {0, 1, false}};
  ASSERT_EQ(order.size(), std::size(expected));
  for (size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(static_cast<int>(order[i].stream), expected[i].stream) << i;
    EXPECT_EQ(order[i].waitsFor, expected[i].waitsFor) << i;
    EXPECT_EQ(order[i].isAwaited, expected[i].isAwaited) << i;
  }
}

} // namespace
} // namespace llmrt
