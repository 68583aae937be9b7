// SPDX-License-Identifier: Apache-2.0
// What the executor enqueues for a cuda plan, on a device that records it and
// runs it by emulation: order, streams, events, grids, copies, and the same
// results as on cpu.
#include "runtime/executor/CreateDevice.h"
#include "tests/runtime/executor/RecordedPlan.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using test::chainOfCopies;
using test::CommandKind;
using test::Place;
using test::PlanBuilder;
using test::Recorded;
using test::RecordedCommand;
using test::run;
using test::runChain;
using test::tinyCudaModel;
using ::testing::HasSubstr;

/// Logits of the tiny model's two entries.
struct TinyLogits {
  std::vector<float> prefill;
  std::vector<float> decode;
};

TinyLogits runTiny(Executor& e) {
  TinyLogits logits;
  logits.prefill = run(e, 0, {4, 1, 6});
  logits.decode = run(e, 1, {5});
  return logits;
}

test::RunOptions sameWeights() {
  test::RunOptions options;
  options.executor.weights = {{"model", "random:7"}};
  return options;
}

void expectLogitsOfTheCpu(const TinyLogits& actual) {
  TinyLogits expected;
  test::expectAllOk(
      test::runRanks(test::tinyModel().plan, sameWeights(), [&](Executor& e) {
        expected = runTiny(e);
        return absl::OkStatus();
      }));
  ASSERT_EQ(actual.prefill.size(), expected.prefill.size());
  for (size_t i = 0; i < expected.prefill.size(); ++i)
    EXPECT_NEAR(actual.prefill[i], expected.prefill[i], 1e-5);
  ASSERT_EQ(actual.decode.size(), expected.decode.size());
  for (size_t i = 0; i < expected.decode.size(); ++i)
    EXPECT_NEAR(actual.decode[i], expected.decode[i], 1e-5);
}

TEST(CudaCommands, givesTheResultsOfTheCpu) {
  Recorded cuda(tinyCudaModel().plan);
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  ASSERT_TRUE(cuda->initialise().ok());
  for (int i = 0; i < 4; ++i) // single, captured, replayed
    expectLogitsOfTheCpu(runTiny(*cuda));
}

TEST(CudaCommands, givesTheResultsOfTheCpuOnAGpu) {
  auto gpu = createCudaDevice({});
  if (!gpu.ok())
    GTEST_SKIP() << gpu.status().message();
  test::expectAllOk(
      test::runRanks(tinyCudaModel().plan, sameWeights(), [](Executor& e) {
        for (int i = 0; i < 4; ++i) // single, captured, replayed
          expectLogitsOfTheCpu(runTiny(e));
        return absl::OkStatus();
      }));
}

TEST(CudaCommands, enqueuesWordsAndInputsBeforeLaunches) {
  Recorded cuda(tinyCudaModel().plan);
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  ASSERT_TRUE(cuda->initialise().ok());
  cuda.take();
  run(*cuda, 0, {4, 1, 6});
  std::vector<RecordedCommand> commands = cuda.take();
  // Words, inputs, two launches, the end; then the output that was asked for.
  ASSERT_GE(commands.size(), 7u);
  EXPECT_EQ(commands[0].kind, CommandKind::Copy);
  EXPECT_EQ(commands[0].to, Place::Device);
  const auto* words = static_cast<const uint64_t*>(commands[0].target);
  EXPECT_EQ(commands[1].kind, CommandKind::Copy);
  EXPECT_EQ(commands[1].from, Place::Pinned);
  EXPECT_EQ(commands[1].to, Place::Device);
  EXPECT_EQ(commands[1].sizeBytes, 12);
  for (int launch : {2, 3}) {
    EXPECT_EQ(commands[launch].kind, CommandKind::Launch);
    EXPECT_EQ(commands[launch].stream, Stream::Compute);
    EXPECT_EQ(commands[launch].rows, 3);
    EXPECT_GE(commands[launch].arguments, words);
    EXPECT_LT(commands[launch].arguments,
              words + commands[0].sizeBytes / sizeof(uint64_t));
  }
  EXPECT_EQ(commands[2].form, "embedding");
  EXPECT_EQ(commands[2].blocks, 3);
  EXPECT_EQ(commands[2].threads, 256);
  EXPECT_EQ(commands[3].form, "linear_rows_4");
  EXPECT_EQ(commands[3].blocks, 1);
  EXPECT_EQ(commands[3].parts, 1);
  EXPECT_EQ(commands[4].kind, CommandKind::Synchronize);
  EXPECT_EQ(commands[5].kind, CommandKind::Copy);
  EXPECT_EQ(commands[5].from, Place::Device);
  EXPECT_EQ(commands[5].to, Place::Pinned);
  EXPECT_EQ(commands[6].kind, CommandKind::Synchronize);
}

TEST(CudaCommands, sendsOnlyWhatHasChanged) {
  Recorded cuda(tinyCudaModel().plan, {}, {.weights = {}, .usesGraphs = false});
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  ASSERT_TRUE(cuda->initialise().ok());
  run(*cuda, 1, {5});
  cuda.take();
  ASSERT_TRUE(cuda->execute(1, 1, nullptr).ok());
  std::vector<CommandKind> kinds;
  for (const RecordedCommand& command : cuda.take())
    kinds.push_back(command.kind);
  // And fetches what was asked for before, behind the launches.
  EXPECT_THAT(kinds, ::testing::ElementsAre(
                         CommandKind::Launch, CommandKind::Launch,
                         CommandKind::Copy, CommandKind::Synchronize));
  test::outputAs<float>(*cuda, 1, "logits");
  EXPECT_THAT(cuda.take(), ::testing::IsEmpty());
}

TEST(CudaCommands, launchesOnlyTheValidRows) {
  Recorded cuda(tinyCudaModel().plan);
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  ASSERT_TRUE(cuda->initialise().ok());
  std::vector<float> three = run(*cuda, 0, {4, 1, 6});
  cuda.take();
  std::vector<float> two = run(*cuda, 0, {4, 1});
  for (const RecordedCommand& command : cuda.take())
    if (command.kind == CommandKind::Launch) {
      EXPECT_EQ(command.rows, 2);
    }
  for (size_t i = 0; i < 14; ++i)
    EXPECT_NEAR(two[i], three[i], 1e-6);
}

TEST(CudaCommands, eventsOrderTheStreams) {
  for (Stream first : {Stream::Compute, Stream::Communication}) {
    Recorded cuda(chainOfCopies(true).plan, {.first = first});
    ASSERT_TRUE(cuda.status().ok()) << cuda.status();
    ASSERT_TRUE(cuda->initialise().ok());
    for (float value : {3.0f, 4.0f})
      EXPECT_EQ(runChain(cuda, value), std::vector<float>(64, value));
  }
  // The check can fail.
  Recorded cuda(chainOfCopies(false).plan, {.first = Stream::Communication});
  ASSERT_TRUE(cuda->initialise().ok());
  EXPECT_EQ(runChain(cuda, 3.0f), std::vector<float>(64, 0.0f));
}

// A lone rank's collective is a copy on its stream; the call itself only
// enqueues.
TEST(CudaCommands, collectivesEnqueueOnTheirStream) {
  for (int stream : {0, 1}) {
    PlanBuilder b;
    b.plan.target = "cuda";
    const int entry = b.entry("gather", 64, 1);
    const int in = b.buffer("in", fb::MemoryClass::Inputs, 256);
    const int out = b.buffer("out", fb::MemoryClass::Outputs, 256);
    b.input(entry, "temperature", in, fb::ElementType::F32, {64});
    b.output(entry, "logits", out, fb::ElementType::F32, {64});
    b.record(entry, 0, 0);
    b.wait(entry, 0, 1);
    b.collective(entry, fb::CommandKind::AllGather, {0}, in, out, 256, stream);
    b.record(entry, 1, 1);
    b.wait(entry, 1, 0);
    Recorded cuda(b.plan);
    ASSERT_TRUE(cuda.status().ok()) << cuda.status();
    ASSERT_TRUE(cuda->initialise().ok());
    cuda.take();
    EXPECT_EQ(runChain(cuda, 5.0f), std::vector<float>(64, 5.0f));
    std::vector<RecordedCommand> commands = cuda.take();
    auto call =
        std::find_if(commands.begin(), commands.end(),
                     [](const auto& c) { return c.kind == CommandKind::Call; });
    ASSERT_NE(call, commands.end());
    EXPECT_EQ(call->stream, static_cast<Stream>(stream));
    ++call;
    EXPECT_EQ(call->kind, CommandKind::Copy);
    EXPECT_EQ(call->stream, static_cast<Stream>(stream));
    EXPECT_EQ(call->from, Place::Device);
    EXPECT_EQ(call->to, Place::Device);
  }
}

/// Two ranks that MPI would connect.
class TwoRanks final : public Fabric {
public:
  explicit TwoRanks(const char* name) : name_(name) {}

  int rank() const override { return 0; }

  int size() const override { return 2; }

  const char* name() const override { return name_; }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int>) override {
    return absl::UnimplementedError("no communicator");
  }

  void abort(const absl::Status&) override {}

  absl::Status abortStatus() const override { return absl::OkStatus(); }

private:
  const char* name_;
};

/// What checkDevice() says of ranks with a cuda device each.
std::string refusal(const Fabric& fabric) {
  return std::string(
      checkDevice(fabric, *test::createRecordingDevice()).message());
}

TEST(CudaCommands, refusesMpi) {
  EXPECT_EQ(refusal(TwoRanks("nccl")), "");
  EXPECT_THAT(refusal(TwoRanks("mpi")),
              ::testing::AllOf(HasSubstr("LLMC-E0805"), HasSubstr("by nccl")));
}

} // namespace
} // namespace llmrt
