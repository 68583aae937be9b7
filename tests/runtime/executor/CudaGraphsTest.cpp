// SPDX-License-Identifier: Apache-2.0
// Calls of a cuda plan as graphs, on a device that keeps captured commands
// until their graph is replayed: which calls are captured, what a replay
// enqueues, that results are those of single commands, and what ends a graph.
#include "tests/runtime/executor/RecordedPlan.h"

#include <algorithm>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using test::CommandKind;
using test::PlanBuilder;
using test::Recorded;
using test::RecordedCommand;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// What was enqueued, without what was only kept for a graph.
std::vector<CommandKind> enqueued(Recorded& cuda) {
  std::vector<CommandKind> kinds;
  for (const RecordedCommand& command : cuda.take())
    if (!command.isCaptured)
      kinds.push_back(command.kind);
  return kinds;
}

bool wasCaptured(const std::vector<CommandKind>& kinds) {
  return std::count(kinds.begin(), kinds.end(), CommandKind::BeginCapture) > 0;
}

bool wasReplayed(const std::vector<CommandKind>& kinds) {
  return !wasCaptured(kinds) &&
         std::count(kinds.begin(), kinds.end(), CommandKind::Replay) == 1;
}

bool wasEager(const std::vector<CommandKind>& kinds) {
  return std::count(kinds.begin(), kinds.end(), CommandKind::Replay) == 0;
}

std::vector<CommandKind> kindsOfDecode(Recorded& cuda) {
  cuda.take();
  test::run(*cuda, 1, {5});
  return enqueued(cuda);
}

/// A tiny model whose decode is replayed.
class Replaying : public Recorded {
public:
  explicit Replaying(const test::RecordingOptions& options = {})
      : Recorded(test::tinyCudaModel().plan, options) {
    EXPECT_TRUE(status().ok()) << status();
    EXPECT_TRUE((*this)->initialise().ok());
    for (int i = 0; i < 3; ++i)
      test::run(**this, 1, {5});
    take();
  }
};

TEST(CudaGraphs, aReplayIsOneCommand) {
  Recorded cuda(test::tinyCudaModel().plan);
  ASSERT_TRUE(cuda.status().ok()) << cuda.status();
  ASSERT_TRUE(cuda->initialise().ok());
  EXPECT_TRUE(wasEager(kindsOfDecode(cuda)));
  EXPECT_THAT(kindsOfDecode(cuda),
              ElementsAre(CommandKind::BeginCapture, CommandKind::EndCapture,
                          CommandKind::Replay, CommandKind::Synchronize));
  // The input is sent and the output fetched in the graph.
  for (int i = 0; i < 3; ++i)
    EXPECT_THAT(kindsOfDecode(cuda),
                ElementsAre(CommandKind::Replay, CommandKind::Synchronize));
}

TEST(CudaGraphs, giveTheBitsOfSingleCommands) {
  Recorded graphs(test::tinyCudaModel().plan);
  Recorded commands(test::tinyCudaModel().plan, {},
                    {.weights = {}, .usesGraphs = false});
  ASSERT_TRUE(graphs->initialise().ok());
  ASSERT_TRUE(commands->initialise().ok());
  // Tokens repeat, so that what was sent before is what is wanted again.
  for (int token : {5, 2, 2, 5, 2, 6, 6, 0})
    EXPECT_EQ(test::run(*graphs, 1, {token}), test::run(*commands, 1, {token}))
        << token;
  for (int i = 0; i < 6; ++i) {
    const std::vector<int32_t> ids = {i, 6 - i, i / 2};
    EXPECT_EQ(test::run(*graphs, 0, ids), test::run(*commands, 0, ids)) << i;
  }
  EXPECT_TRUE(wasEager(enqueued(commands)));
}

TEST(CudaGraphs, everyNumberOfRowsHasItsOwn) {
  Recorded graphs(test::tinyCudaModel().plan);
  Recorded commands(test::tinyCudaModel().plan, {},
                    {.weights = {}, .usesGraphs = false});
  ASSERT_TRUE(graphs->initialise().ok());
  ASSERT_TRUE(commands->initialise().ok());
  const std::vector<std::vector<int32_t>> prompts = {
      {4, 1, 6}, {4, 1}, {1}, {3, 2, 1}, {5, 5}, {6}, {0, 1, 2}, {2, 2}, {3}};
  for (size_t i = 0; i < prompts.size(); ++i) {
    graphs.take();
    const auto logits = test::run(*graphs, 0, prompts[i]);
    const auto expected = test::run(*commands, 0, prompts[i]);
    // Only valid rows mean something.
    for (size_t j = 0; j < 7 * prompts[i].size(); ++j)
      EXPECT_EQ(logits[j], expected[j]);
    const std::vector<CommandKind> kinds = enqueued(graphs);
    EXPECT_EQ(wasEager(kinds), i < 3);
    EXPECT_EQ(wasCaptured(kinds), i >= 3 && i < 6);
    if (i >= 6) {
      // The words of another number of rows, and the graph.
      EXPECT_THAT(kinds, ElementsAre(CommandKind::Copy, CommandKind::Replay,
                                     CommandKind::Synchronize));
    }
  }
}

TEST(CudaGraphs, eagerCallsBetweenReplaysSendWhatIsThere) {
  Replaying cuda;
  const std::vector<float> two = test::run(*cuda, 1, {2});
  test::run(*cuda, 1, {5});
  (*cuda).execute(1, 0, nullptr).IgnoreError(); // eager: no valid row
  // Sent by that call; a replay changes the device's copy; then sent again.
  EXPECT_NE(test::run(*cuda, 1, {3}), two);
  EXPECT_EQ(test::run(*cuda, 1, {2}), two);
}

TEST(CudaGraphs, bothStreamsArePartOfThem) {
  for (Stream first : {Stream::Compute, Stream::Communication}) {
    Recorded cuda(test::chainOfCopies(true).plan, {.first = first});
    ASSERT_TRUE(cuda.status().ok()) << cuda.status();
    ASSERT_TRUE(cuda->initialise().ok());
    for (float value : {3.0f, 4.0f, 5.0f, 6.0f}) {
      cuda.take();
      EXPECT_EQ(test::runChain(cuda, value), std::vector<float>(64, value));
    }
    EXPECT_TRUE(wasReplayed(enqueued(cuda)));
  }
  // The check can fail.
  Recorded cuda(test::chainOfCopies(false).plan,
                {.first = Stream::Communication});
  ASSERT_TRUE(cuda->initialise().ok());
  test::runChain(cuda, 3.0f);
  test::runChain(cuda, 4.0f);
  EXPECT_EQ(test::runChain(cuda, 5.0f), std::vector<float>(64, 4.0f));
}

TEST(CudaGraphs, fetchWhatIsAskedFor) {
  Recorded cuda(test::tinyCudaModel().plan);
  ASSERT_TRUE(cuda->initialise().ok());
  auto execute = [&] {
    cuda.take();
    ASSERT_TRUE(cuda->execute(1, 1, nullptr).ok());
  };
  for (int i = 0; i < 3; ++i)
    execute();
  EXPECT_TRUE(wasReplayed(enqueued(cuda)));
  // Asked for the first time: now, and in a new graph from here on.
  const auto logits = test::outputAs<float>(*cuda, 1, "logits");
  EXPECT_THAT(enqueued(cuda),
              ElementsAre(CommandKind::Copy, CommandKind::Synchronize));
  execute();
  EXPECT_TRUE(wasCaptured(enqueued(cuda)));
  EXPECT_EQ(test::outputAs<float>(*cuda, 1, "logits"), logits);
  EXPECT_THAT(enqueued(cuda), ElementsAre());
  execute();
  EXPECT_TRUE(wasReplayed(enqueued(cuda)));
}

TEST(CudaGraphs, aFailureIsReportedAndTheDeviceGoesOn) {
  Recorded cuda(test::tinyCudaModel().plan, {.failsInCapture = true});
  ASSERT_TRUE(cuda->initialise().ok());
  test::run(*cuda, 1, {5});
  absl::Status failed = cuda->execute(1, 1, nullptr);
  EXPECT_THAT(failed.message(),
              AllOf(HasSubstr("LLMC-E0808"), HasSubstr("cannot be captured")));
  // The run is over, as after any failure. The device is not.
  test::RecordingDevice& device = cuda.device();
  auto place = device.allocate(MemorySpace::Device, MemoryClass::Inputs, 4);
  auto host = device.allocate(MemorySpace::PinnedHost, MemoryClass::Inputs, 8);
  ASSERT_TRUE(place.ok() && host.ok());
  auto* words = static_cast<uint32_t*>(*host);
  words[0] = 7;
  device.copy(Stream::Compute, *place, words, 4);
  device.copy(Stream::Compute, words + 1, *place, 4);
  EXPECT_TRUE(device.synchronize().ok());
  EXPECT_EQ(words[1], 7u);
}

TEST(CudaGraphs, reloadedWeightsEndThem) {
  Replaying cuda;
  const std::vector<float> before = test::run(*cuda, 1, {5});
  EXPECT_TRUE(wasReplayed(enqueued(cuda)));
  ASSERT_TRUE(cuda->reloadWeights({{"model", "random:8"}}).ok());
  cuda.take();
  const std::vector<float> after = test::run(*cuda, 1, {5});
  EXPECT_NE(after, before);
  EXPECT_TRUE(wasEager(enqueued(cuda)));
  EXPECT_TRUE(wasCaptured(kindsOfDecode(cuda)));
  EXPECT_EQ(test::run(*cuda, 1, {5}), after);
}

TEST(CudaGraphs, scratchThatMovesEndsThem) {
  Replaying cuda;
  ASSERT_TRUE(cuda.device().reserveScratch(int64_t{1} << 30).ok());
  EXPECT_TRUE(wasCaptured(kindsOfDecode(cuda)));
  EXPECT_TRUE(wasReplayed(kindsOfDecode(cuda)));
  // Enough is there: nothing moves.
  ASSERT_TRUE(cuda.device().reserveScratch(1).ok());
  EXPECT_TRUE(wasReplayed(kindsOfDecode(cuda)));
}

TEST(CudaGraphs, onlySoManyAreKept) {
  PlanBuilder b = test::chainOfCopies(true);
  Recorded cuda(b.plan);
  ASSERT_TRUE(cuda->initialise().ok());
  auto run = [&](int64_t rows) {
    cuda.take();
    EXPECT_TRUE(cuda->execute(0, rows, nullptr).ok());
    return enqueued(cuda);
  };
  for (int64_t rows = 1; rows <= 12; ++rows) {
    EXPECT_TRUE(wasEager(run(rows)));
    EXPECT_TRUE(wasCaptured(run(rows)));
  }
  EXPECT_TRUE(wasReplayed(run(12)));
  EXPECT_TRUE(wasReplayed(run(5)));
  EXPECT_TRUE(wasEager(run(4))); // the oldest are gone
}

/// Two ranks whose calls may be captured or not. The calls do nothing.
class TwoRanks final : public Fabric {
public:
  explicit TwoRanks(bool canCapture) : canCapture_(canCapture) {}

  int rank() const override { return 0; }

  int size() const override { return 2; }

  const char* name() const override { return "pair"; }

  bool canCapture() const override { return canCapture_; }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int>) override {
    return std::make_unique<Pair>();
  }

  void abort(const absl::Status&) override {}

  absl::Status abortStatus() const override { return absl::OkStatus(); }

private:
  class Pair final : public Communicator {
  public:
    int rank() const override { return 0; }

    int size() const override { return 2; }

    int64_t reservedBytes() const override { return 0; }

    absl::Status allGatherBucket(absl::Span<const BucketPart>,
                                 const CollectiveTag&) override {
      return absl::OkStatus();
    }

    absl::Status reduceScatterBucket(absl::Span<const BucketPart>, DType,
                                     const CollectiveTag&) override {
      return absl::OkStatus();
    }

    absl::Status allReduce(void*, int64_t, DType,
                           const CollectiveTag&) override {
      return absl::OkStatus();
    }

    absl::Status allToAll(const void*, void*, int64_t,
                          const CollectiveTag&) override {
      return absl::OkStatus();
    }

    absl::Status broadcast(void*, int64_t, int, const CollectiveTag&) override {
      return absl::OkStatus();
    }

    absl::Status exchange(const void*, int64_t, int, void*, int64_t, int,
                          const CollectiveTag&) override {
      return absl::OkStatus();
    }

    absl::Status barrier(const CollectiveTag&) override {
      return absl::OkStatus();
    }
  };

  bool canCapture_;
};

/// An entry with a collective over an axis.
class SumPlan {
public:
  SumPlan(const std::string& axis, bool canCapture) : fabric_(canCapture) {
    PlanBuilder b({{axis, 2}});
    b.plan.target = "cuda";
    const int entry = b.entry("sum", 64, 1);
    const int in = b.buffer("in", fb::MemoryClass::Inputs, 256);
    const int out = b.buffer("out", fb::MemoryClass::Outputs, 256);
    b.input(entry, "temperature", in, fb::ElementType::F32, {64});
    b.output(entry, "logits", out, fb::ElementType::F32, {64});
    b.collective(entry, fb::CommandKind::AllReduce, {0}, in, out, 256, 0);
    file_ = test::finishPlan(b.plan);
    auto plan = readPlan(file_);
    EXPECT_TRUE(plan.ok()) << plan.status();
    auto device = test::createRecordingDevice();
    device_ = device.get();
    auto made =
        Executor::create(**plan, fabric_, {.weights = {}, .keepTimeline = true},
                         std::move(device));
    EXPECT_TRUE(made.ok()) << made.status();
    executor_ = *std::move(made);
    EXPECT_TRUE(executor_->initialise().ok());
  }

  void execute() { EXPECT_TRUE(executor_->execute(0, 64, nullptr).ok()); }

  /// How the timeline says that the calls so far ran.
  std::vector<std::string> how() {
    std::vector<std::string> how;
    if (auto timeline = executor_->takeTimeline())
      for (const TimelineEvent& event : timeline->row(TimelineRow::Entries))
        how.push_back(event.subject);
    return how;
  }

  Executor& executor() { return *executor_; }

  test::RecordingDevice& device() { return *device_; }

private:
  test::PlanBytes file_;
  TwoRanks fabric_;
  test::RecordingDevice* device_;
  std::unique_ptr<Executor> executor_;
};

std::vector<std::string> callsOfSum(const std::string& axis, bool canCapture) {
  SumPlan plan(axis, canCapture);
  for (int i = 0; i < 4; ++i)
    plan.execute();
  return plan.how();
}

// Other ranks of a group would have to capture it again too.
TEST(CudaGraphs, ofAGroupStayAsTheyAre) {
  SumPlan plan("tp", true);
  for (int i = 0; i < 3; ++i)
    plan.execute();
  plan.device().takeCommands();
  plan.executor().output(0, "logits");
  EXPECT_EQ(plan.device().takeCommands().size(), 2u); // a copy and a wait
  plan.execute();
  EXPECT_EQ(plan.how().back(), "replayed");
  plan.device().takeCommands();
  plan.executor().output(0, "logits"); // again not by the graph
  EXPECT_EQ(plan.device().takeCommands().size(), 2u);
}

TEST(CudaGraphs, holdCommunicationThatCanBeCaptured) {
  EXPECT_THAT(callsOfSum("tp", true),
              ElementsAre("eager: first of its kind", "captured", "replayed",
                          "replayed"));
  EXPECT_THAT(callsOfSum("tp", false),
              ::testing::Each(HasSubstr("calls cannot be captured")));
  EXPECT_THAT(callsOfSum("dp", true),
              ::testing::Each(HasSubstr("data replicas")));
}

// What CUDA refuses in a capture, the recording device does too.
class CaptureRules : public testing::Test {
protected:
  void SetUp() override {
    for (void*& memory : device_)
      memory =
          *recorder_->allocate(MemorySpace::Device, MemoryClass::Workspace, 64);
    pinned_ =
        *recorder_->allocate(MemorySpace::PinnedHost, MemoryClass::Inputs, 64);
  }

  /// Captures `work` and returns what then is wrong.
  std::string refusalOf(const std::function<void()>& work) {
    recorder_->beginCapture();
    work();
    const GraphId graph = recorder_->endCapture();
    const absl::Status status = recorder_->synchronize();
    EXPECT_EQ(recorder_->holdsGraph(graph), status.ok());
    return std::string(status.message());
  }

  std::unique_ptr<test::RecordingDevice> recorder_ =
      test::createRecordingDevice();
  void* device_[2];
  void* pinned_;
};

TEST_F(CaptureRules, commandsRunWhenTheyAreReplayed) {
  auto* word = static_cast<uint32_t*>(pinned_);
  *word = 7;
  GraphId graph;
  recorder_->beginCapture();
  recorder_->copy(Stream::Compute, device_[0], pinned_, 4);
  recorder_->copy(Stream::Compute, word + 1, device_[0], 4);
  graph = recorder_->endCapture();
  ASSERT_TRUE(recorder_->synchronize().ok());
  EXPECT_EQ(word[1], 0u);
  for (uint32_t value : {8u, 9u}) {
    *word = value; // what is there when it runs
    recorder_->replay(graph);
    ASSERT_TRUE(recorder_->synchronize().ok());
    EXPECT_EQ(word[1], value);
  }
  recorder_->dropGraph(graph);
  EXPECT_FALSE(recorder_->holdsGraph(graph));
  recorder_->replay(graph);
  EXPECT_FALSE(recorder_->synchronize().ok());
}

TEST_F(CaptureRules, refuseWhatTouchesTheHost) {
  uint32_t ordinary = 0;
  EXPECT_EQ(refusalOf([&] {
              recorder_->copy(Stream::Compute, device_[0], pinned_, 4);
            }),
            "");
  EXPECT_THAT(refusalOf([&] {
                recorder_->copy(Stream::Compute, device_[0], &ordinary, 4);
              }),
              HasSubstr("ordinary memory"));
  EXPECT_THAT(refusalOf([&] { (void)recorder_->synchronize(); }),
              HasSubstr("not valid"));
  EXPECT_THAT(
      refusalOf([&] {
        EXPECT_FALSE(
            recorder_->allocate(MemorySpace::Device, MemoryClass::Workspace, 64)
                .ok());
      }),
      HasSubstr("not valid"));
}

TEST_F(CaptureRules, refuseEventsThatCrossTheBorder) {
  const EventId outside = recorder_->createEvent();
  const EventId inside = recorder_->createEvent();
  recorder_->record(outside, Stream::Compute);
  EXPECT_THAT(
      refusalOf([&] { recorder_->wait(Stream::Communication, outside); }),
      HasSubstr("crosses"));
  EXPECT_EQ(refusalOf([&] {
              recorder_->record(inside, Stream::Compute);
              recorder_->wait(Stream::Communication, inside);
            }),
            "");
  recorder_->wait(Stream::Communication, inside);
  EXPECT_THAT(recorder_->synchronize().message(), HasSubstr("crosses"));
}

} // namespace
} // namespace llmrt
