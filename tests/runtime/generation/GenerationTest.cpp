// SPDX-License-Identifier: Apache-2.0
// Generation over a fake model: every sequence must get the text that it gets
// alone, whatever the batch, the chunks and the mesh.
#include "runtime/generation/Generation.h"

#include "runtime/base/Error.h"
#include "runtime/generation/PageAllocator.h"
#include "tests/runtime/generation/FakeExecutor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

namespace llmrt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ListClient final : public GenerationClient {
public:
  explicit ListClient(std::vector<GenerationRequest> requests)
      : requests_(std::move(requests)) {}

  absl::StatusOr<std::optional<GenerationRequest>> nextRequest() override {
    if (next_ == requests_.size())
      return std::nullopt;
    return requests_[next_++];
  }

  absl::StatusOr<bool> takeToken(int64_t index, int32_t id) override {
    streamed[index].push_back(id);
    return id != lastToken;
  }

  absl::Status takeResult(const GenerationResult& result) override {
    results[result.index] = result;
    return absl::OkStatus();
  }

  void takeRound(const RoundStatistics& round) override {
    rounds.push_back(round);
  }

  bool isInterrupted() override {
    return interruptAt >= 0 && static_cast<int>(rounds.size()) >= interruptAt;
  }

  std::map<int64_t, std::vector<int32_t>> streamed;
  std::map<int64_t, GenerationResult> results;
  std::vector<RoundStatistics> rounds;
  int32_t lastToken = -1;
  int interruptAt = -1;

private:
  std::vector<GenerationRequest> requests_;
  size_t next_ = 0;
};

GenerationRequest makeRequest(int64_t index, int64_t numPrompt,
                              int64_t maxNewTokens) {
  GenerationRequest request;
  request.index = index;
  for (int64_t i = 0; i < numPrompt; ++i)
    request.prompt.push_back(static_cast<int32_t>((7 * index + 3 * i) % 101));
  request.maxNewTokens = maxNewTokens;
  return request;
}

std::vector<int32_t> expectedTokens(const GenerationRequest& request,
                                    int64_t vocabSize = 101) {
  std::vector<int32_t> all = request.prompt;
  for (int64_t i = 0; i < request.maxNewTokens; ++i)
    all.push_back(fakeNextToken(all, vocabSize));
  return {all.begin() + request.prompt.size(), all.end()};
}

/// Runs `onRank0` on rank 0 and follow() on the others; returns each rank's
/// outcome.
struct World {
  explicit World(const FakePlanShape& shape)
      : bytes(makeFakePlan(shape)), plan(*fb::GetPlan(bytes.data())),
        fabrics(createLocalFabrics(numRanks(plan),
                                   {.timeoutSeconds = 20, .link = {}})) {}

  using Body = std::function<absl::StatusOr<RunEnd>(Generation&)>;

  std::vector<absl::StatusOr<RunEnd>> run(const Body& onRank0,
                                          int64_t chunkTokens = 0) {
    std::vector<absl::StatusOr<RunEnd>> outcomes(
        fabrics.size(), absl::UnknownError("did not run"));
    executors.resize(fabrics.size());
    std::vector<std::thread> threads;
    for (size_t rank = 0; rank < fabrics.size(); ++rank)
      threads.emplace_back([&, rank] {
        outcomes[rank] = runRank(static_cast<int>(rank), onRank0, chunkTokens);
        if (!outcomes[rank].ok())
          fabrics[rank]->abort(outcomes[rank].status());
      });
    for (std::thread& thread : threads)
      thread.join();
    return outcomes;
  }

  absl::StatusOr<RunEnd> runRank(int rank, const Body& onRank0,
                                 int64_t chunkTokens) {
    executors[rank] = std::make_unique<FakeExecutor>(plan, *fabrics[rank]);
    executors[rank]->failAtCall = rank == failingRank ? 2 : -1;
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<Generation> generation,
                           Generation::create(plan, *executors[rank],
                                              *fabrics[rank],
                                              {.chunkTokens = chunkTokens}));
    if (rank != 0)
      return generation->follow();
    LLMRT_ASSIGN_OR_RETURN(RunEnd how, onRank0(*generation));
    LLMRT_RETURN_IF_ERROR(generation->end(how));
    return how;
  }

  std::vector<uint8_t> bytes;
  const fb::Plan& plan;
  std::vector<std::unique_ptr<Fabric>> fabrics;
  std::vector<std::unique_ptr<FakeExecutor>> executors;
  int failingRank = -1;
};

void expectEveryPromptAsAlone(const FakePlanShape& shape,
                              const std::vector<GenerationRequest>& requests,
                              int64_t chunkTokens = 0) {
  World world(shape);
  ListClient client(requests);
  auto outcomes = world.run(
      [&](Generation& generation) { return generation.generate(client); },
      chunkTokens);
  for (auto& outcome : outcomes) {
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(*outcome, RunEnd::Finished);
  }
  ASSERT_EQ(client.results.size(), requests.size());
  for (const GenerationRequest& request : requests) {
    EXPECT_EQ(client.results[request.index].tokens, expectedTokens(request))
        << "prompt " << request.index;
    EXPECT_EQ(client.results[request.index].reason, FinishReason::Length);
    EXPECT_EQ(client.streamed[request.index], expectedTokens(request));
  }
}

TEST(Generation, OnePromptOnOneRank) {
  expectEveryPromptAsAlone({}, {makeRequest(0, 5, 20)});
}

TEST(Generation, PromptLongerThanAChunkAndAPage) {
  expectEveryPromptAsAlone({}, {makeRequest(0, 130, 70)});
  expectEveryPromptAsAlone({}, {makeRequest(0, 130, 70)}, 3);
}

TEST(Generation, ContinuousBatchOfUnequalPrompts) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 11; ++i)
    requests.push_back(makeRequest(i, 1 + 23 * i % 90, 1 + 31 * i % 60));
  expectEveryPromptAsAlone({.batch = 3}, requests);
  expectEveryPromptAsAlone({.batch = 4, .chunk = 16}, requests);
}

TEST(Generation, ReplicasWithOneTwoThreePrompts) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 3; ++i) {
    requests.push_back(makeRequest(i, 3 + 17 * i, 4 + 9 * i));
    expectEveryPromptAsAlone({.dp = 2}, requests);
    expectEveryPromptAsAlone({.dp = 3, .batch = 2}, requests);
  }
}

TEST(Generation, EveryAxisAtOnce) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 7; ++i)
    requests.push_back(makeRequest(i, 2 + 13 * i, 3 + 7 * i));
  expectEveryPromptAsAlone({.dp = 2, .pp = 2, .tp = 2, .batch = 2}, requests);
}

TEST(Generation, DecodeRunsOnlyRowsWithWorkAndMasksIdleReplicas) {
  World world({.dp = 2, .batch = 4});
  ListClient client({makeRequest(0, 3, 5)});
  auto outcomes = world.run(
      [&](Generation& generation) { return generation.generate(client); });
  ASSERT_TRUE(outcomes[0].ok() && outcomes[1].ok());
  ASSERT_EQ(world.executors[0]->calls.size(), 5);
  EXPECT_EQ(world.executors[0]->calls[0].validRows, 3); // prefill
  for (int i = 1; i < 5; ++i)
    EXPECT_EQ(world.executors[0]->calls[i].validRows, 1);
  ASSERT_EQ(world.executors[1]->calls.size(), 5);
  for (const auto& call : world.executors[1]->calls)
    EXPECT_EQ(call.validRows, 0);
}

TEST(Generation, EverySequenceHasItsOwnSampling) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 5; ++i) {
    requests.push_back(makeRequest(i, 3 + 5 * i, 6));
    requests.back().sampling = {0.5F, i, 1, 1000 + i % 2};
  }
  World world({.dp = 2, .batch = 2});
  ListClient client(requests);
  world.run(
      [&](Generation& generation) { return generation.generate(client); });
  for (const GenerationRequest& request : requests) {
    std::vector<int32_t> all = request.prompt;
    for (int i = 0; i < 6; ++i)
      all.push_back(fakeSampledToken(
          all,
          {static_cast<int32_t>(request.sampling.seed),
           static_cast<int32_t>(request.index), request.sampling.topK},
          101));
    all.erase(all.begin(), all.begin() + request.prompt.size());
    EXPECT_EQ(client.results[request.index].tokens, all);
  }
}

TEST(Generation, StopIdEndsASequenceAndIsNotPartOfIt) {
  GenerationRequest request = makeRequest(0, 4, 30);
  std::vector<int32_t> expected = expectedTokens(request);
  request.stopIds = {expected[6]};
  expected.resize(std::find(expected.begin(), expected.end(), expected[6]) -
                  expected.begin());
  World world({});
  ListClient client({request});
  world.run(
      [&](Generation& generation) { return generation.generate(client); });
  EXPECT_EQ(client.results[0].tokens, expected);
  EXPECT_EQ(client.results[0].reason, FinishReason::Stop);
}

TEST(Generation, ClientEndsASequence) {
  GenerationRequest request = makeRequest(0, 4, 30);
  std::vector<int32_t> expected = expectedTokens(request);
  World world({});
  ListClient client({request});
  client.lastToken = expected[3];
  world.run(
      [&](Generation& generation) { return generation.generate(client); });
  EXPECT_LE(client.results[0].tokens.size(), 4U);
  EXPECT_EQ(client.results[0].tokens.back(), expected[3]);
  EXPECT_EQ(client.results[0].reason, FinishReason::Stop);
}

TEST(Generation, ContextLimitEndsASequence) {
  World world({.cacheTokens = 64});
  ListClient client({makeRequest(0, 60, 30)});
  world.run(
      [&](Generation& generation) { return generation.generate(client); });
  EXPECT_EQ(client.results[0].tokens.size(), 4U);
  EXPECT_EQ(client.results[0].reason, FinishReason::Context);
}

TEST(Generation, NoTokensWanted) {
  World world({});
  ListClient client({makeRequest(0, 60, 0), makeRequest(1, 3, 2)});
  auto outcomes = world.run(
      [&](Generation& generation) { return generation.generate(client); });
  ASSERT_TRUE(outcomes[0].ok());
  EXPECT_TRUE(client.results[0].tokens.empty());
  EXPECT_EQ(client.results[1].tokens.size(), 2U);
}

TEST(Generation, InterruptionEndsEveryRank) {
  World world({.dp = 2, .tp = 2});
  ListClient client({makeRequest(0, 5, 200)});
  client.interruptAt = 10;
  auto outcomes = world.run(
      [&](Generation& generation) { return generation.generate(client); });
  for (auto& outcome : outcomes) {
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(*outcome, RunEnd::Interrupted);
  }
  EXPECT_EQ(client.rounds.size(), 10U);
  EXPECT_TRUE(client.results.empty());
}

TEST(Generation, FailureOfOneRankEndsEveryRank) {
  World world({.dp = 2, .tp = 2});
  world.failingRank = 3;
  ListClient client({makeRequest(0, 5, 200)});
  auto outcomes = world.run(
      [&](Generation& generation) { return generation.generate(client); });
  for (auto& outcome : outcomes) {
    ASSERT_FALSE(outcome.ok());
    EXPECT_THAT(std::string(outcome.status().message()),
                HasSubstr("the fake failed"));
  }
}

TEST(Generation, PromptsThatDoNotFitAreRefused) {
  auto codeOf = [](GenerationRequest request) {
    World world({.cacheTokens = 64});
    ListClient client({std::move(request)});
    auto outcomes = world.run(
        [&](Generation& generation) { return generation.generate(client); });
    return std::string(outcomes[0].status().message()).substr(0, 10);
  };
  EXPECT_EQ(codeOf(makeRequest(0, 64, 1)), "LLMC-E0903");
  EXPECT_EQ(codeOf(makeRequest(0, 0, 1)), "LLMC-E0902");
  GenerationRequest outside = makeRequest(0, 3, 1);
  outside.prompt[1] = 101;
  EXPECT_EQ(codeOf(outside), "LLMC-E0904");
}

void expectLogits(const FakePlanShape& shape, const char* entry,
                  int64_t chunkTokens) {
  World world(shape);
  GenerationRequest request = makeRequest(4, 21, 0);
  std::vector<std::vector<float>> rows;
  ListClient client({});
  auto outcomes = world.run(
      [&](Generation& generation) {
        return generation.score(
            request.prompt, entry, client,
            [&](int64_t row, absl::Span<const float> logits) {
              EXPECT_EQ(row, static_cast<int64_t>(rows.size()));
              rows.emplace_back(logits.begin(), logits.end());
              return absl::OkStatus();
            });
      },
      chunkTokens);
  for (auto& outcome : outcomes)
    ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(rows.size(), request.prompt.size());
  for (size_t i = 0; i < rows.size(); ++i)
    EXPECT_EQ(rows[i], fakeLogits(absl::MakeSpan(request.prompt).first(i + 1),
                                  shape.vocabSize));
}

TEST(Generation, LogitsOfEveryRow) {
  expectLogits({}, "score", 0);
  expectLogits({}, "score", 5);
  expectLogits({.batch = 3}, "decode", 0);
  expectLogits({.dp = 2, .pp = 3, .tp = 2}, "score", 0);
  expectLogits({.dp = 2, .pp = 2, .batch = 2}, "decode", 0);
}

TEST(ControlRecord, RefusesWhatDoesNotFit) {
  auto record = *ControlRecord::create({{2, 4, 3}, {5, 1, 3}}, 2);
  EXPECT_THAT(std::string(record.check(0).message()), HasSubstr("LLMC-E0912"));
  record.begin(ControlAction::Execute, 0, 7);
  EXPECT_TRUE(record.check(7).ok());
  EXPECT_FALSE(record.check(8).ok());
  record.replica(1).validRows = 9;
  EXPECT_FALSE(record.check(7).ok());
  record.begin(ControlAction::Finish, -1, 7);
  EXPECT_TRUE(record.check(7).ok());
}

TEST(ControlRecord, MaskedReplicasAndSeparateViews) {
  auto record = *ControlRecord::create({{2, 4, 3}, {5, 1, 3}}, 2);
  for (int entry : {0, 1}) {
    record.begin(ControlAction::Execute, entry, 0);
    auto inputs = record.replica(0);
    inputs.seed[0] = -1;
    std::fill(inputs.ids.begin(), inputs.ids.end(), 1);
    std::fill(inputs.blockTable.begin(), inputs.blockTable.end(), 2);
    std::fill(inputs.sequence.begin(), inputs.sequence.end(), 3);
    EXPECT_EQ(inputs.positions[0], -1);
    EXPECT_EQ(inputs.topP.back(), 1);
    auto masked = record.replica(1);
    EXPECT_EQ(masked.validRows, 0);
    EXPECT_EQ(masked.ids[0], 0);
    EXPECT_EQ(masked.positions.back(), -1);
    EXPECT_EQ(masked.seed[0], 0);
  }
}

TEST(PageAllocator, LowestFirstAndNeverTwice) {
  PageAllocator pages(6);
  auto a = *pages.allocate(2);
  auto b = *pages.allocate(3);
  EXPECT_THAT(a, ElementsAre(0, 1));
  EXPECT_THAT(b, ElementsAre(2, 3, 4));
  EXPECT_FALSE(pages.allocate(2).has_value());
  pages.release(a);
  EXPECT_THAT(*pages.allocate(3), ElementsAre(0, 1, 5));
  EXPECT_EQ(pages.numFree(), 0);
}

} // namespace
} // namespace llmrt
