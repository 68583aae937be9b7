// SPDX-License-Identifier: Apache-2.0
// Plans that contradict themselves are refused, and the error names the place.
// Each case changes one field of a valid plan.
#include "tests/plan/PlanBuilder.h"

#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

/// tinyModel() on two stages of two ranks, with one of every kind of command.
test::PlanBuilder everyCommand() {
  using enum fb::CommandKind;
  test::PlanBuilder b({{"pp", 2}, {"tp", 2}});
  int entry = b.entry("decode", 2, 1);
  int unstack = b.kernel("unstack", 1, 0);
  b.plan.kernels.push_back(std::make_unique<fb::KernelT>());
  b.plan.kernels.back()->kind = fb::KernelKind::Generated;
  b.plan.kernels.back()->name = "add";
  b.plan.code.push_back(std::make_unique<fb::CodeObjectT>());
  b.plan.code.back()->target = "cpu";
  b.plan.code.back()->image = {1, 2, 3};
  for (int stage : {0, 1}) {
    b.select(stage);
    int ids = b.buffer("ids", fb::MemoryClass::Inputs, 8);
    int small = b.buffer("small", fb::MemoryClass::Activations, 64);
    int large = b.buffer("large", fb::MemoryClass::Activations, 128);
    int weight = b.buffer("weight", fb::MemoryClass::Parameters, 128);
    fb::ParameterT& p = b.parameter("w", {8, 4}, weight);
    p.local_shape = {4, 4};
    p.box.push_back(std::make_unique<fb::BoxDimT>());
    p.box[0]->dim = 0;
    p.box[0]->offset = test::values(1, {0, 4});
    p.box[0]->count = test::values(1, {4, 4});
    p.shard_axes = {1};
    p.shard_bytes = 32;
    b.input(entry, "ids", ids, fb::ElementType::I32, {2, 1});
    b.output(entry, "logits", large, fb::ElementType::F32, {2, 16});
    b.stage().caches.push_back(std::make_unique<fb::CacheT>());
    b.stage().caches[0]->buffer = large;
    b.stage().caches[0]->pages = 2;
    b.stage().caches[0]->page_bytes = 64;
    std::vector<fb::WordT> words; // rows in out T Cl C rowStride
    words.push_back(test::rows());
    words.push_back(test::address(small));
    words.push_back(test::address(large));
    for (int i = 0; i < 4; ++i)
      words.push_back(test::integer(1));
    b.launch(entry, unstack, std::move(words), test::rows(), 1);
    words.clear();
    words.push_back(test::rowsShard(1));
    words.push_back(test::address(small));
    b.launch(entry, 1, std::move(words), test::sequences(), 1);
    b.collective(entry, AllGather, {1}, small, large, 64, 1);
    b.record(entry, 0, 1);
    b.wait(entry, 0, 0);
    b.collective(entry, ReduceScatter, {1}, large, small, 64);
    b.collective(entry, AllReduce, {0, 1}, -1, small, 64);
    b.collective(entry, AllToAll, {1}, large, large, 64);
    b.collective(entry, Broadcast, {1}, -1, small, 64).root = 1;
    b.collective(entry, stage == 0 ? Send : Recv, {0}, stage == 0 ? small : -1,
                 stage == 0 ? -1 : small, 64)
        .peer = 1 - stage;
    fb::CommandT& exchange =
        b.collective(entry, Exchange, {1}, small, large, 64);
    exchange.peer = 0;
    exchange.recv_peer = 1;
    b.copy(entry, small, large, 64).send_offset = test::values(-1, {0});
  }
  b.plan.memory.push_back(std::make_unique<fb::MemoryRowT>());
  b.plan.memory[0]->size_bytes = 128; // class Parameters
  b.plan.costs.push_back(std::make_unique<fb::CostRowT>());
  b.plan.costs[0]->axis_bytes = {1, 2};
  return b;
}

struct BadPlan {
  const char* where; // in the message
  std::function<void(fb::PlanT&)> spoil;
};

void PrintTo(const BadPlan& bad, std::ostream* out) { *out << bad.where; }

fb::CommandT& command(fb::PlanT& p, int number) {
  return *p.stages[1]->programs[0]->commands[number];
}

fb::ParameterT& parameter(fb::PlanT& p) { return *p.stages[1]->parameters[0]; }

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

class BadPlanTest : public ::testing::TestWithParam<BadPlan> {};

TEST(BadPlan, TheUnspoiledPlanIsGood) {
  auto file = test::finishPlan(everyCommand().plan);
  auto plan = readPlan(file);
  EXPECT_TRUE(plan.ok()) << plan.status();
}

TEST_P(BadPlanTest, IsRefused) {
  test::PlanBuilder b = everyCommand();
  GetParam().spoil(b.plan);
  auto file = test::finishPlan(b.plan);
  auto plan = readPlan(file);
  ASSERT_FALSE(plan.ok());
  EXPECT_THAT(plan.status().message(), HasSubstr(GetParam().where));
  EXPECT_EQ(plan.status().message().substr(0, 8), "LLMC-E06");
}

using P = fb::PlanT;

const BadPlan kBadPlans[] = {
    {"schema_version", [](P& p) { p.schema_version = 9; }},
    {"axes[0]", [](P& p) { p.axes[0]->size = 0; }},
    {"axes[1]", [](P& p) { p.axes[1]->name = "pp"; }},
    {"axes[1]", [](P& p) { p.axes[1]->size = 1 << 20; }},
    {"stages: 1 stages", [](P& p) { p.stages.pop_back(); }},
    {"entries", [](P& p) { p.entries.clear(); }},
    {"entries[0]", [](P& p) { p.entries[0]->name = ""; }},
    {"entries[0]", [](P& p) { p.entries[0]->sequences = kHuge; }},
    {"entries[0]", [](P& p) { p.entries[0]->rows_per_sequence = 0; }},
    {"kernels[0]", [](P& p) { p.kernels[0]->name = ""; }},
    {"kernels[0]", [](P& p) { p.kernels[0]->row_tile = -1; }},
    {"kernels[0]", [](P& p) { p.kernels[0]->col_tile = 3; }},
    {"kernels[1]", [](P& p) { p.kernels[1]->scratch_bytes = kHuge; }},
    {"code", [](P& p) { p.code.clear(); }},
    {"code[0]", [](P& p) { p.code[0]->level = -1; }},
    {"code[0]", [](P& p) { p.code[0]->image.clear(); }},
    {"code[0]", [](P& p) { p.code[0]->target = "cuda"; }},
    {"target", [](P& p) { p.target = "tpu"; }},
    {"arenas[0]", [](P& p) { p.stages[1]->arenas[0]->size_bytes = -1; }},
    {"arenas[1]",
     [](P& p) {
       p.stages[0]->arenas.push_back(std::make_unique<fb::ArenaT>());
     }},
    {"buffers[1]", [](P& p) { p.stages[1]->buffers[1]->offset = -64; }},
    {"buffers[1]", [](P& p) { p.stages[1]->buffers[1]->offset = 32; }},
    {"buffers[1]", [](P& p) { p.stages[1]->buffers[1]->offset = kHuge; }},
    {"buffers[3]", [](P& p) { p.stages[1]->buffers[3]->size_bytes = kHuge; }},
    {"buffers[3]", [](P& p) { p.stages[1]->buffers[3]->padding_bytes = 129; }},
    {"buffers[0]",
     [](P& p) { p.stages[1]->buffers[0]->memory_class = fb::MemoryClass{99}; }},
    {"buffers[0]",
     [](P& p) { p.stages[1]->buffers[0]->space = fb::MemorySpace::File; }},
    {"parameters[0]", [](P& p) { parameter(p).name = ""; }},
    {"parameters[0]", [](P& p) { parameter(p).global_shape = {8}; }},
    {"parameters[0]",
     [](P& p) {
       parameter(p).global_shape = {8, -4};
     }},
    {"parameters[0]",
     [](P& p) {
       parameter(p).global_shape = {kHuge, kHuge};
     }},
    {"parameters[0]", [](P& p) { parameter(p).dtype = fb::ElementType::I32; }},
    {"parameters[0]", [](P& p) { parameter(p).buffer = 4; }},
    {"parameters[0]", [](P& p) { parameter(p).shard_bytes = 31; }},
    {"parameters[0]", [](P& p) { parameter(p).shard_bytes = 16; }},
    {"shard_axes",
     [](P& p) {
       parameter(p).shard_axes = {1, 1};
     }},
    {"shard_axes", [](P& p) { parameter(p).shard_axes = {2}; }},
    {"parameters[0]", [](P& p) { parameter(p).source_row_begin = 3; }},
    {"parameters[0]",
     [](P& p) {
       parameter(p).local_shape = {4, 3};
     }},
    {"parameters[0]", [](P& p) { parameter(p).box.clear(); }},
    {"box[0]", [](P& p) { parameter(p).box[0]->dim = 2; }},
    {"box[0].offset", [](P& p) { parameter(p).box[0]->offset.reset(); }},
    {"box[0].offset",
     [](P& p) { parameter(p).box[0]->offset = test::values(1, {0}); }},
    {"box[0].offset",
     [](P& p) { parameter(p).box[0]->offset = test::values(7, {0}); }},
    {"box[0]",
     [](P& p) {
       parameter(p).box[0]->offset = test::values(1, {0, 5});
     }},
    {"box[0].count",
     [](P& p) {
       parameter(p).box[0]->count = test::values(1, {4, 5});
     }},
    {"parameters[1]",
     [](P& p) {
       p.stages[0]->parameters.push_back(
           std::make_unique<fb::ParameterT>(*p.stages[0]->parameters[0]));
     }},
    {"caches[0]", [](P& p) { p.stages[1]->caches[0]->pages = 3; }},
    {"caches[0]", [](P& p) { p.stages[1]->caches[0]->buffer = -1; }},
    {"inputs[0]", [](P& p) { p.stages[1]->inputs[0]->entry = 1; }},
    {"inputs[0].buffers[0]",
     [](P& p) { p.stages[1]->inputs[0]->buffers[0]->name = "idz"; }},
    {"inputs[0].buffers[0]",
     [](P& p) { p.stages[1]->inputs[0]->buffers[0]->shape = {1}; }},
    {"outputs[0].buffers[0]",
     [](P& p) {
       p.stages[1]->outputs[0]->buffers[0]->shape = {2, 17};
     }},
    {"programs", [](P& p) { p.stages[1]->programs.clear(); }},
    {"programs[0]", [](P& p) { p.stages[1]->programs[0]->entry = 1; }},
    {"programs[0]", [](P& p) { p.stages[1]->programs[0]->num_events = 99; }},
    {"initialise",
     [](P& p) { p.stages[0]->initialise = std::make_unique<fb::ProgramT>(); }},
    {"commands[0]", [](P& p) { command(p, 0).stream = 1; }},
    {"commands[0]", [](P& p) { command(p, 0).kernel = 2; }},
    {"commands[0]", [](P& p) { command(p, 0).provenance = 1; }},
    {"commands[0]", [](P& p) { command(p, 0).words.pop_back(); }},
    {"commands[0].words[1]", [](P& p) { command(p, 0).words[1]->index = 4; }},
    {"commands[0].words[1]", [](P& p) { command(p, 0).words[1]->value = 65; }},
    {"commands[0].words[3]",
     [](P& p) { *command(p, 0).words[3] = test::address(0); }},
    {"commands[0].words[3]",
     [](P& p) { *command(p, 0).words[3] = test::real(1.0); }},
    {"commands[0].words[3]",
     [](P& p) { *command(p, 0).words[3] = test::byCoordinate(1, {1}); }},
    {"commands[0].words[1]",
     [](P& p) { command(p, 0).words[1]->kind = fb::WordKind::SlotWords; }},
    {"commands[0].grid_rows", [](P& p) { command(p, 0).grid_rows.reset(); }},
    {"commands[0].slots[0]",
     [](P& p) {
       command(p, 0).slots.push_back(std::make_unique<fb::SlotT>());
     }},
    {"commands[1]", [](P& p) { command(p, 1).words.clear(); }},
    {"commands[1].words[0]", [](P& p) { command(p, 1).words[0]->index = 2; }},
    {"commands[2].recv_buffer", [](P& p) { command(p, 2).recv_buffer = 1; }},
    {"commands[2].send_buffer", [](P& p) { command(p, 2).send_buffer = -1; }},
    {"commands[2].axes", [](P& p) { command(p, 2).axes.clear(); }},
    {"commands[2].axes",
     [](P& p) {
       command(p, 2).axes = {1, 1};
     }},
    {"commands[2]", [](P& p) { command(p, 2).bytes = kHuge; }},
    {"commands[2]", [](P& p) { command(p, 2).stream = 2; }},
    {"commands[3]", [](P& p) { command(p, 3).event = 1; }},
    {"commands[3]",
     [](P& p) {
       std::swap(p.stages[1]->programs[0]->commands[3],
                 p.stages[1]->programs[0]->commands[4]);
     }},
    {"commands[5]", [](P& p) { command(p, 5).bytes = 63; }},
    {"commands[5]", [](P& p) { command(p, 5).dtype = fb::ElementType::I32; }},
    {"commands[5].recv_buffer", [](P& p) { command(p, 5).recv_buffer = 0; }},
    {"commands[6].recv_buffer", [](P& p) { command(p, 6).recv_buffer = -1; }},
    {"commands[8]", [](P& p) { command(p, 8).root = 2; }},
    {"commands[8]",
     [](P& p) {
       command(p, 8).axes = {0, 1};
     }},
    {"commands[9]", [](P& p) { command(p, 9).peer = -1; }},
    {"commands[10]", [](P& p) { command(p, 10).recv_peer = 2; }},
    {"commands[11].send_offset",
     [](P& p) { command(p, 11).send_offset = test::values(-1, {1}); }},
    {"commands[11].send_offset",
     [](P& p) { command(p, 11).send_offset = test::values(-1, {kHuge}); }},
    {"commands[11]", [](P& p) { command(p, 11).kind = fb::CommandKind{50}; }},
    {"memory[0]", [](P& p) { p.memory[0]->stage = 2; }},
    {"memory[0]", [](P& p) { p.memory[0]->padding_bytes = 129; }},
    {"memory[0]", [](P& p) { p.memory[0]->size_bytes = 64; }},
    {"memory[1]",
     [](P& p) {
       p.memory.push_back(std::make_unique<fb::MemoryRowT>(*p.memory[0]));
     }},
    {"costs[0]", [](P& p) { p.costs[0]->axis_bytes = {1}; }},
    {"costs[0]", [](P& p) { p.costs[0]->entry = 1; }},
};

INSTANTIATE_TEST_SUITE_P(All, BadPlanTest, ::testing::ValuesIn(kBadPlans));

TEST(BadPlan, NamesAKernelThatTheCpuLacks) {
  test::PlanBuilder b = everyCommand();
  b.plan.kernels[0]->name = "fused_linear";
  b.plan.kernels[0]->version = 2;
  auto file = test::finishPlan(b.plan);
  EXPECT_THAT(readPlan(file).status().message(),
              HasSubstr("LLMC-E0802: the plan is for cpu, and kernel "
                        "fused_linear exists on cuda only"));
}

// Word factorDtype: bf16 is for cuda.
TEST(BadPlan, NamesRoundedFactorsOnTheCpu) {
  for (bool isOfBf16 : {false, true}) {
    test::PlanBuilder b = test::tinyModel();
    fb::CommandT& linear = *b.stage().programs[0]->commands[1];
    ASSERT_EQ(linear.words.size(), 31u);
    linear.words.back()->value = isOfBf16;
    auto file = test::finishPlan(b.plan);
    if (isOfBf16)
      EXPECT_THAT(readPlan(file).status().message(),
                  HasSubstr("words[30]: factors of another type than f32 are "
                            "for cuda"));
    else
      EXPECT_TRUE(readPlan(file).ok()) << readPlan(file).status();
  }
}

TEST(BadPlan, NamesAMissingKernel) {
  test::PlanBuilder b = everyCommand();
  b.plan.kernels[0]->version = 7;
  auto file = test::finishPlan(b.plan);
  EXPECT_THAT(readPlan(file).status().message(),
              HasSubstr("LLMC-E0802: the plan needs kernel unstack version 7, "
                        "this program has version 1"));
}

} // namespace
} // namespace llmrt
