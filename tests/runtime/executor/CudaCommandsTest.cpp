// SPDX-License-Identifier: Apache-2.0
// What the executor enqueues for a cuda plan, on a device that records it and
// runs it by emulation: order, streams, events, grids, copies, and the same
// results as on cpu.
#include "runtime/executor/CreateDevice.h"
#include "tests/runtime/executor/RunRanks.h"
#include "tests/support/cuda/RecordingDevice.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using test::CommandKind;
using test::Place;
using test::PlanBuilder;
using test::RecordedCommand;
using ::testing::HasSubstr;

/// An executor of a one-rank plan on a recording device.
class Recorded {
public:
  explicit Recorded(const fb::PlanT& plan,
                    const test::RecordingOptions& options = {})
      : file_(test::finishPlan(plan)) {
    auto read = readPlan(file_);
    EXPECT_TRUE(read.ok()) << read.status();
    fabrics_ = createLocalFabrics(1, {});
    auto device = test::createRecordingDevice(options);
    device_ = device.get();
    auto made = Executor::create(**read, *fabrics_[0],
                                 {.weights = {{"model", "random:7"}}},
                                 std::move(device));
    status_ = made.status();
    if (made.ok())
      executor_ = *std::move(made);
  }

  const absl::Status& status() const { return status_; }

  Executor& operator*() { return *executor_; }

  Executor* operator->() { return executor_.get(); }

  std::vector<RecordedCommand> take() { return device_->takeCommands(); }

private:
  test::PlanBytes file_;
  std::vector<std::unique_ptr<Fabric>> fabrics_;
  test::RecordingDevice* device_;
  absl::Status status_;
  std::unique_ptr<Executor> executor_;
};

PlanBuilder tinyCudaModel() {
  PlanBuilder b = test::tinyModel();
  b.plan.target = "cuda";
  b.stage().parameters[1]->layout = fb::WeightLayout::RowMajor;
  for (auto& program : b.stage().programs)
    program->commands[1]->words[5]->value = 0; // layout of `linear`
  return b;
}

std::vector<float> run(Executor& e, int entry, std::vector<int32_t> ids) {
  auto input = test::inputAs<int32_t>(e, entry, "ids");
  std::copy(ids.begin(), ids.end(), input.begin());
  absl::Status status = e.execute(entry, ids.size(), nullptr);
  EXPECT_TRUE(status.ok()) << status;
  return test::outputAs<float>(e, entry, "logits");
}

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
  expectLogitsOfTheCpu(runTiny(*cuda));
}

TEST(CudaCommands, givesTheResultsOfTheCpuOnAGpu) {
  auto gpu = createCudaDevice({});
  if (!gpu.ok())
    GTEST_SKIP() << gpu.status().message();
  test::expectAllOk(
      test::runRanks(tinyCudaModel().plan, sameWeights(), [](Executor& e) {
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
  // Inputs, words, two launches, the end; then the output that was asked for,
  // twice in outputAs() and once here.
  ASSERT_GE(commands.size(), 7u);
  EXPECT_EQ(commands[0].kind, CommandKind::Copy);
  EXPECT_EQ(commands[0].from, Place::Pinned);
  EXPECT_EQ(commands[0].to, Place::Device);
  EXPECT_EQ(commands[0].sizeBytes, 12);
  EXPECT_EQ(commands[1].kind, CommandKind::Copy);
  EXPECT_EQ(commands[1].to, Place::Device);
  const auto* words = static_cast<const uint64_t*>(commands[1].target);
  for (int launch : {2, 3}) {
    EXPECT_EQ(commands[launch].kind, CommandKind::Launch);
    EXPECT_EQ(commands[launch].stream, Stream::Compute);
    EXPECT_EQ(commands[launch].rows, 3);
    EXPECT_GE(commands[launch].arguments, words);
    EXPECT_LT(commands[launch].arguments,
              words + commands[1].sizeBytes / sizeof(uint64_t));
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
  Recorded cuda(tinyCudaModel().plan);
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  ASSERT_TRUE(cuda->initialise().ok());
  run(*cuda, 1, {5});
  cuda.take();
  ASSERT_TRUE(cuda->execute(1, 1, nullptr).ok());
  std::vector<CommandKind> kinds;
  for (const RecordedCommand& command : cuda.take())
    kinds.push_back(command.kind);
  EXPECT_THAT(kinds,
              ::testing::ElementsAre(CommandKind::Launch, CommandKind::Launch,
                                     CommandKind::Synchronize));
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

/// input -> a (compute), a -> b (communication), b -> output (compute), with
/// the events that this order needs, or without the first of them.
PlanBuilder chainOfCopies(bool hasFirstEvent) {
  PlanBuilder b;
  b.plan.target = "cuda";
  const int entry = b.entry("chain", 64, 1);
  const int in = b.buffer("in", fb::MemoryClass::Inputs, 256);
  const int first = b.buffer("a", fb::MemoryClass::Activations, 256);
  const int second = b.buffer("b", fb::MemoryClass::Activations, 256);
  const int out = b.buffer("out", fb::MemoryClass::Outputs, 256);
  b.input(entry, "temperature", in, fb::ElementType::F32, {64});
  b.output(entry, "logits", out, fb::ElementType::F32, {64});
  b.copy(entry, in, first, 256, 0);
  if (hasFirstEvent) {
    b.record(entry, 0, 0);
    b.wait(entry, 0, 1);
  }
  b.copy(entry, first, second, 256, 1);
  b.record(entry, 1, 1);
  b.wait(entry, 1, 0);
  b.copy(entry, second, out, 256, 0);
  return b;
}

std::vector<float> runChain(Recorded& cuda, float value) {
  auto in = test::inputAs<float>(*cuda, 0, "temperature");
  std::fill(in.begin(), in.end(), value);
  EXPECT_TRUE(cuda->execute(0, 1, nullptr).ok());
  return test::outputAs<float>(*cuda, 0, "logits");
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
