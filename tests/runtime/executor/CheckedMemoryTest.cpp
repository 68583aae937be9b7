// SPDX-License-Identifier: Apache-2.0
// The check of memory must be able to fail: small plans that are right, and the
// same plans with one thing wrong.
#include "tests/runtime/executor/RunRanks.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using test::PlanBuilder;
using test::RunOptions;
using test::runRanks;
using ::testing::AllOf;
using ::testing::HasSubstr;

RunOptions checked() {
  RunOptions options;
  options.executor.checkMemory = true;
  options.executor.weights = {{"model", "random:1"}};
  return options;
}

absl::Status runPrefill(Executor& e) {
  for (int& id : test::inputAs<int32_t>(e, 0, "ids"))
    id = 3;
  return e.execute(0, 3, nullptr);
}

/// What a run of the tiny model's prefill says after `change`.
std::string messageAfter(const std::function<void(PlanBuilder&)>& change) {
  PlanBuilder b = test::tinyModel();
  change(b);
  return std::string(runRanks(b.plan, checked(), runPrefill)[0].message());
}

fb::BufferT& buffer(PlanBuilder& b, const std::string& name) {
  for (auto& buffer : b.stage().buffers)
    if (buffer->name == name)
      return *buffer;
  ADD_FAILURE() << "no buffer " << name;
  return *b.stage().buffers[0];
}

TEST(CheckedMemory, ARightPlanTouchesWhatItSays) {
  PlanBuilder b = test::tinyModel();
  test::expectAllOk(runRanks(b.plan, checked(), [&](Executor& e) {
    auto touched = [&](MemoryClass memoryClass) {
      return e.memory().touched[static_cast<int>(memoryClass)];
    };
    EXPECT_EQ(touched(MemoryClass::Parameters), (7 * 5 + 32 * 5) * 4);
    EXPECT_EQ(touched(MemoryClass::Activations), 0);
    absl::Status status = runPrefill(e);
    EXPECT_EQ(touched(MemoryClass::Inputs), 3 * 4);
    EXPECT_EQ(touched(MemoryClass::Activations), 3 * 5 * 4);
    EXPECT_EQ(touched(MemoryClass::Outputs), 3 * 7 * 4);
    fb::BufferT& logits = buffer(b, "logits");
    EXPECT_EQ(e.memory().highestTouched, logits.offset + logits.size_bytes);
    return status;
  }));
}

TEST(CheckedMemory, FewerRowsTouchLess) {
  PlanBuilder b = test::tinyModel();
  test::expectAllOk(runRanks(b.plan, checked(), [&](Executor& e) {
    test::inputAs<int32_t>(e, 0, "ids")[0] = 3;
    absl::Status status = e.execute(0, 1, nullptr);
    EXPECT_EQ(e.memory().touched[static_cast<int>(MemoryClass::Activations)],
              5 * 4);
    return status;
  }));
}

TEST(CheckedMemory, NamesABufferThatNobodyWrote) {
  EXPECT_THAT(messageAfter([](PlanBuilder& b) {
                auto& commands = b.program(0).commands;
                commands.erase(commands.begin()); // the embedding
              }),
              AllOf(HasSubstr("LLMC-E0806: rank 0, entry prefill, command 0 "
                              "(linear of layers.0.test for layers.0.weight, "
                              "pass by-hand)"),
                    HasSubstr("buffer 'x' was never written")));
}

TEST(CheckedMemory, NamesBuffersThatOverlap) {
  EXPECT_THAT(
      messageAfter([](PlanBuilder& b) {
        buffer(b, "x").offset = buffer(b, "logits").offset;
      }),
      AllOf(
          HasSubstr("LLMC-E0806: rank 0, entry prefill, command 0 (embedding"),
          HasSubstr("'x'"), HasSubstr("'logits'"), HasSubstr("overlap")));
}

TEST(CheckedMemory, NamesAKernelThatWritesOneElementTooMany) {
  // 56 bytes do not fill a cache line: the element is found when `x` dies.
  EXPECT_THAT(
      messageAfter([](PlanBuilder& b) { buffer(b, "x").size_bytes -= 4; }),
      AllOf(HasSubstr("LLMC-E0806: rank 0, entry prefill"),
            HasSubstr("wrote byte 56 of buffer 'x', which has 56 bytes")));
  // 64 do: the element lies on a closed page.
  EXPECT_THAT(messageAfter([](PlanBuilder& b) {
                auto& command = *b.program(0).commands[0];
                command.words[3]->value = 8; // of `out`: 4 bytes too far
                buffer(b, "x").size_bytes = 64;
              }),
              AllOf(HasSubstr("command 0 (embedding"),
                    HasSubstr("wrote byte 64 of buffer 'x', which has 64 "
                              "bytes")));
}

TEST(CheckedMemory, NamesAReadPastTheEnd) {
  EXPECT_THAT(messageAfter([](PlanBuilder& b) {
                auto& command = *b.program(0).commands[1];
                command.words[1]->value = 32; // of `x` [3, 5] f32
              }),
              AllOf(HasSubstr("command 1 (linear"), HasSubstr("read byte "),
                    HasSubstr(" of buffer 'x', which has 60 bytes")));
}

TEST(CheckedMemory, NamesAWriteThatNoCommandDoes) {
  // Weights are loaded into what lives only inside a program.
  EXPECT_THAT(messageAfter([](PlanBuilder& b) {
                buffer(b, "embed").memory_class = fb::MemoryClass::Workspace;
              }),
              AllOf(HasSubstr("rank 0, outside of commands: wrote byte 0 of "
                              "buffer 'embed' outside its lifetime")));
}

/// logits = all-gather of the input on the communication stream, through `x`.
PlanBuilder gathering(bool hasWait, bool usesEarly) {
  PlanBuilder b;
  int entry = b.entry("decode", 4, 1);
  int small = b.buffer("small", fb::MemoryClass::Inputs, 16);
  int x = b.buffer("x", fb::MemoryClass::GatheredParameters, 16);
  int large = b.buffer("large", fb::MemoryClass::Outputs, 16);
  b.input(entry, "temperature", small, fb::ElementType::F32, {4});
  b.output(entry, "logits", large, fb::ElementType::F32, {4});
  b.collective(0, fb::CommandKind::AllGather, {0}, small, x, 16, 1);
  b.record(0, 0, 1);
  if (usesEarly)
    b.copy(0, x, large, 16);
  if (hasWait)
    b.wait(0, 0, 0);
  b.copy(0, x, large, 16);
  return b;
}

TEST(CheckedMemory, NamesATransferThatIsUsedTooEarly) {
  auto messageOf = [](const PlanBuilder& b) {
    return std::string(
        runRanks(b.plan, checked(),
                 [](Executor& e) {
                   for (float& x : test::inputAs<float>(e, 0, "temperature"))
                     x = 1;
                   return e.execute(0, 4, nullptr);
                 })[0]
            .message());
  };
  EXPECT_EQ(messageOf(gathering(true, false)), "");
  EXPECT_THAT(messageOf(gathering(true, true)),
              AllOf(HasSubstr("command 2 (Copy"),
                    HasSubstr("uses buffer 'x' before it waits")));
  EXPECT_THAT(messageOf(gathering(false, false)),
              HasSubstr("uses buffer 'x' before it waits"));
}

} // namespace
} // namespace llmrt
