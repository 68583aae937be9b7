// SPDX-License-Identifier: Apache-2.0
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace llmc::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class DiffCheck : public testing::Test {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    folder_->makePlan("a", kTinyLlama, "--mesh=tp=2");
    folder_->makePlan("same", kTinyLlama, "--mesh=tp=2");
    folder_->makePlan("unmerged", kTinyLlama,
                      "--mesh=tp=2 --disable=merge-linears");
    folder_->makePlan("rows", kTinyLlama,
                      "--mesh=tp=2 --sequence-parallel=false");
    ToolEnd end = folder_->run("llmc check a --budget=a.json --update");
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  static void TearDownTestSuite() { delete folder_; }

  ToolEnd run(const std::string& command) { return folder_->run(command); }

  static LlmcFolder* folder_;
};

LlmcFolder* DiffCheck::folder_ = nullptr;

TEST_F(DiffCheck, EqualPlansSayNothing) {
  ToolEnd end = run("llmc diff a same");
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.output, "");
}

TEST_F(DiffCheck, DiffSaysWhichOpsHaveNewLaunches) {
  ToolEnd end = run("llmc diff a unmerged");
  EXPECT_EQ(end.status, 1);
  EXPECT_EQ(end.errors, "");
  EXPECT_THAT(end.output,
              AllOf(HasSubstr("entries.decode.launches: "),
                    HasSubstr("linear for layers.*/layer.self_attn.k_proj: "
                              "0 -> 4"),
                    HasSubstr("first difference in the disassemblies")));
}

TEST_F(DiffCheck, DiffSaysWhichCollectivesChanged) {
  ToolEnd end = run("llmc diff a rows");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.output, AllOf(HasSubstr("options: "),
                                HasSubstr("all_reduce over tp by ")));
}

TEST_F(DiffCheck, ABadPlanIsNotADifference) {
  ToolEnd end = run("llmc diff a nowhere.fb");
  EXPECT_EQ(end.status, 2);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0103"));
  end = run("head -c 1000 a >cut.fb; llmc diff cut.fb a");
  EXPECT_EQ(end.status, 2);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0601: cut.fb: "));
}

TEST_F(DiffCheck, APlanMeetsTheBudgetWrittenFromIt) {
  ToolEnd end = run("llmc check a --budget=a.json");
  EXPECT_EQ(end.status, 0) << end.errors;
  EXPECT_THAT(end.output, HasSubstr("counters within budget; closest: "));
}

TEST_F(DiffCheck, GrowthIsNamedWithItsReason) {
  ToolEnd end = run("llmc check unmerged --budget=a.json");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors,
              AllOf(HasSubstr("LLMC-E1101: unmerged exceeds a.json: "),
                    HasSubstr("entries.decode.launches by +")));
  EXPECT_THAT(
      end.output,
      AllOf(HasSubstr("since the budget was written:"),
            HasSubstr("linear for layers.*/layer.mlp.up_proj: 0 -> 4")));
}

TEST_F(DiffCheck, WithoutContributorsTheLargestAreNamed) {
  folder_->write("small.json", R"({"entries": {"decode": {"launches": 3}}})");
  ToolEnd end = run("llmc check a --budget=small.json");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.output, AllOf(HasSubstr("consists mostly of:"),
                                HasSubstr("0 of 1 counters within budget")));
}

TEST_F(DiffCheck, ShrinkingIsNoFailure) {
  ToolEnd end = run("llmc check unmerged --budget=b.json --update && "
                    "llmc check a --budget=b.json");
  json budget = json::parse(folder_->read("b.json"));
  EXPECT_GT(
      budget["entries"]["decode"]["launches"],
      json::parse(folder_->read("a.json"))["entries"]["decode"]["launches"]);
  // Merged linears may need a larger buffer; only counted launches shrink for
  // sure.
  EXPECT_THAT(end.output, Not(HasSubstr("launches: ")));
}

TEST_F(DiffCheck, ABadBudgetIsNotGrowth) {
  for (auto [text, code] : {std::pair{"{", "LLMC-E1102"},
                            {"{}", "LLMC-E1102"},
                            {R"({"plan_byte": 1})", "LLMC-E1102"},
                            {R"({"entries": {"train": {}}})", "LLMC-E1103"}}) {
    folder_->write("bad.json", text);
    ToolEnd end = run("llmc check a --budget=bad.json");
    EXPECT_EQ(end.status, 2) << text;
    EXPECT_THAT(end.errors, HasSubstr(code)) << text;
    EXPECT_EQ(end.output, "");
  }
  EXPECT_THAT(run("llmc check a --budget=none.json").errors,
              HasSubstr("LLMC-E0103"));
  EXPECT_EQ(run("llmc check a").status, 2);
}

TEST_F(DiffCheck, AnUnwritableBudgetIsNotLeftHalf) {
  ToolEnd end = run("llmc check a --budget=no/such/folder.json --update");
  EXPECT_EQ(end.status, 2);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0104"));
}

} // namespace
} // namespace llmc::test
