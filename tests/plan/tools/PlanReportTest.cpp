// SPDX-License-Identifier: Apache-2.0
// Names, sent bytes, accesses and counters of plans made by hand: expected
// numbers are worked out in the comments, not taken from the compiler.
#include "runtime/plan/KernelFlops.h"
#include "tests/plan/PlanBuilder.h"
#include "tools/llmc/PlanCounters.h"
#include "tools/llmc/PlanViews.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>

namespace llmc {
namespace {

using llmrt::test::PlanBuilder;
using llmrt::test::PlanBytes;
using testing::ElementsAre;
using testing::HasSubstr;

OpenPlan openPlan(const fb::PlanT& plan) {
  PlanBytes bytes = llmrt::test::finishPlan(plan);
  std::string path = testing::TempDir() + "/plan-report-test.fb";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  auto open = OpenPlan::open(path);
  std::remove(path.c_str());
  EXPECT_TRUE(open.ok()) << open.status();
  return std::move(*open);
}

TEST(PlanReportNames, SnakeCaseKeepsRunsOfCapitalsTogether) {
  EXPECT_EQ(snakeCase("GatheredParameters"), "gathered_parameters");
  EXPECT_EQ(snakeCase("BF16"), "bf16");
  EXPECT_EQ(nameOf(fb::CommandKind::AllReduce), "all_reduce");
}

TEST(PlanReportNames, GroupsDropLayerNumbersOnly) {
  EXPECT_EQ(groupName("layers.12/layer.q_proj"), "layers.*/layer.q_proj");
  EXPECT_EQ(groupName("model.layers.0.mlp.7"), "model.layers.*.mlp.*");
  EXPECT_EQ(groupName("add_rms_norm_64.w1"), "add_rms_norm_64.w1");
  EXPECT_EQ(groupName(""), "");
}

TEST(PlanReportNames, RanksAreRuns) {
  EXPECT_EQ(ranksText({0, 1, 2, 5, 7, 8}), "0-2, 5, 7-8");
  EXPECT_EQ(ranksText({}), "");
}

TEST(PlanReportNames, BytesAreExactAndReadable) {
  EXPECT_EQ(bytesText(1023), "1023");
  EXPECT_EQ(bytesText(1536), "1536 (1.5 KiB)");
  EXPECT_EQ(shortBytes(int64_t{3} << 30), "3.0 GiB");
}

/// One entry on four ranks along tp, with one collective of each kind over 4096
/// bytes.
class Collectives : public testing::Test {
protected:
  static constexpr int64_t kBytes = 4096;

  int64_t sent(fb::CommandKind kind) {
    PlanBuilder builder({{"tp", 4}});
    int entry = builder.entry("decode", 1, 1);
    // Gathers need room for four parts.
    int small = builder.buffer("small", fb::MemoryClass::Activations, kBytes);
    int large =
        builder.buffer("large", fb::MemoryClass::Communication, 4 * kBytes);
    bool isReduction = kind == fb::CommandKind::ReduceScatter;
    bool inPlace = kind == fb::CommandKind::AllReduce;
    builder.collective(entry, kind, {0}, isReduction ? large : small,
                       isReduction || inPlace ? small : large, kBytes);
    OpenPlan open = openPlan(builder.plan);
    const fb::Command& command =
        *programsOf(open.plan()).back().program->commands()->Get(0);
    EXPECT_EQ(sentBy(open.plan(), command).axis, 0);
    return sentBy(open.plan(), command).bytes;
  }
};

TEST_F(Collectives, GatherSendsItsPartToThreePeers) {
  EXPECT_EQ(sent(fb::CommandKind::AllGather), 3 * kBytes);
}

TEST_F(Collectives, ReduceScatterSendsOnePartToEachOfThreePeers) {
  EXPECT_EQ(sent(fb::CommandKind::ReduceScatter), 3 * kBytes);
}

TEST_F(Collectives, AllReduceSendsThreeQuartersTwice) {
  EXPECT_EQ(sent(fb::CommandKind::AllReduce), 2 * kBytes * 3 / 4);
}

TEST(KernelFlops, AttentionCountsTheKeysThatRowsSee) {
  // Two sequences of 8 rows, 3 heads of 5: all 36 pairs, or with a window of 3
  // keys 1 + 2 + 6 * 3 = 21.
  std::map<std::string, int64_t> words = {
      {"R", 8}, {"H", 3}, {"D", 5}, {"window", 0}};
  auto flops = [&](absl::string_view kernel, int64_t gridRows) {
    return llmrt::kernelFlops(
        kernel, {gridRows, /*cacheTokens=*/64},
        [&](absl::string_view name) { return words[std::string(name)]; });
  };
  EXPECT_EQ(flops("attention_rows", 16), 2 * 36 * 15 * 4);
  EXPECT_EQ(flops("attention_gradient", 2), 2 * 36 * 15 * 10);
  EXPECT_EQ(flops("attention", 16), 16 * 64 * 15 * 4);
  words["window"] = 3;
  EXPECT_EQ(flops("attention_rows", 16), 2 * 21 * 15 * 4);
  EXPECT_EQ(flops("attention_gradient", 2), 2 * 21 * 15 * 10);
  EXPECT_EQ(flops("adamw", 2), 0);
}

/// logits = embedding(ids) * w^T, two entries, one rank.
class TinyModel : public testing::Test {
protected:
  OpenPlan open_ = openPlan(llmrt::test::tinyModel().plan);

  const fb::Plan& plan() { return open_.plan(); }

  Counter counter(const std::string& name) {
    for (const Counter& counter : countPlan(open_))
      if (counter.name == name)
        return counter;
    ADD_FAILURE() << "no counter " << name;
    return {};
  }
};

TEST_F(TinyModel, ProductsCountTwoFlopsForEachWeightOfEachRow) {
  for (const StageProgram& program : programsOf(plan())) {
    double flops = 0;
    for (const fb::Command* command : listOf(program.program->commands()))
      flops += flopsOf(plan(), *program.program, *command);
    const fb::Entry* entry = plan().entries()->Get(program.program->entry());
    // Vocabulary 7, width 5.
    EXPECT_EQ(flops, 2.0 * 7 * 5 * entry->rows_per_sequence());
  }
}

TEST_F(TinyModel, TheFirstLaunchThatNamesAnActivationWritesIt) {
  for (const StageProgram& program : programsOf(plan())) {
    auto accesses = accessesOf(plan(), program);
    for (size_t i = 0; i < accesses.size(); ++i) {
      const fb::Buffer& buffer = *program.holder->buffers()->Get(i);
      if (accesses[i].empty())
        continue;
      bool isGiven = buffer.memory_class() == fb::MemoryClass::Parameters ||
                     buffer.memory_class() == fb::MemoryClass::Inputs;
      EXPECT_EQ(accesses[i].front().isWrite, !isGiven) << textOf(buffer.name());
    }
  }
}

TEST_F(TinyModel, TheFileConsistsOfItsContributors) {
  Counter file = counter("plan_bytes");
  int64_t sum = 0;
  for (const auto& [name, bytes] : file.contributors)
    sum += bytes;
  EXPECT_EQ(sum, file.value);
  EXPECT_EQ(file.value, open_.sizeBytes());
}

TEST_F(TinyModel, DisassemblyNamesTheWordsOfHandTunedKernels) {
  std::string text = disassemble(plan());
  EXPECT_THAT(text, HasSubstr("launch linear grid rows x 7 (rows=rows, x="));
  EXPECT_THAT(text, HasSubstr("K=5"));
}

TEST_F(TinyModel, GraphLeadsFromWriterToReader) {
  std::string first = textOf(plan().entries()->Get(0)->name());
  auto graph = commandGraph(plan(), first);
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_THAT(*graph, HasSubstr("s0c0 -> s0c1"));
  auto unknown = commandGraph(plan(), "decod");
  ASSERT_FALSE(unknown.ok());
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("LLMC-E1104"));
}

TEST(CounterChanges, TheLargestChangeIsFirst) {
  Contributors before = {{"a", 10}, {"b", 5}, {"c", 1}},
               after = {{"a", 12}, {"c", 1}, {"d", 9}};
  EXPECT_THAT(changesOf("kernels", before, after, 8),
              ElementsAre("d: 0 -> 9", "b: 5 -> 0", "a: 10 -> 12"));
  EXPECT_THAT(changesOf("kernels", before, after, 1),
              ElementsAre("d: 0 -> 9", "and 2 more"));
}

TEST(CounterChanges, ShareNeedsSomethingBefore) {
  EXPECT_EQ(changeText("kernels", 4, 6), "+2 (+50.0 %)");
  EXPECT_EQ(changeText("kernels", 0, 6), "+6");
  EXPECT_EQ(changeText("plan_bytes", 4096, 2048), "-2048 (-2.0 KiB, -50.0 %)");
}

} // namespace
} // namespace llmc
