// SPDX-License-Identifier: Apache-2.0
// Three plans of this project against tests/budgets: the same plans and files
// as tools/check-budgets, which also rewrites the budgets. Then a plan that
// lost an optimisation must fail.
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace llmc::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct BudgetedPlan {
  const char* name;
  const char* model;
  const char* options;
};

constexpr BudgetedPlan kPlans[] = {
    {"smollm2-tp2",
     "llama,layers=30,hidden=576,heads=9,kv_heads=3,intermediate=1536,"
     "vocab=49152,context=2048,tied=1",
     "--mesh=tp=2 --seq=2048"},
    {"llama-1b-bf16",
     "llama,layers=22,hidden=2048,heads=32,kv_heads=4,intermediate=5632,"
     "vocab=32000,context=2048",
     "--dtype=bf16 --seq=2048"},
    {"qwen3-dp2-pp2-tp2-zero3",
     "qwen3,layers=6,hidden=256,heads=8,kv_heads=4,intermediate=768,"
     "vocab=8192,context=1024",
     "--mesh=dp=2,pp=2,tp=2 --zero=3 --seq=1024"},
};

void PrintTo(const BudgetedPlan& plan, std::ostream* os) { *os << plan.name; }

class PlanBudgets : public testing::TestWithParam<BudgetedPlan> {
protected:
  ToolEnd check(const std::string& moreOptions) {
    const BudgetedPlan& plan = GetParam();
    folder_.makePlan("plan", plan.model, plan.options + moreOptions);
    return folder_.run("llmc check plan --budget='" +
                       std::string(std::getenv("LLMC_SOURCE_DIR")) +
                       "/tests/budgets/" + plan.name + ".json'");
  }

  LlmcFolder folder_;
};

TEST_P(PlanBudgets, Hold) {
  ToolEnd end = check("");
  EXPECT_EQ(end.status, 0) << end.output << end.errors;
}

TEST_P(PlanBudgets, NameTheLaunchesOfAnOptimisationThatIsOff) {
  ToolEnd end = check(" --disable=merge-linears");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors, AllOf(HasSubstr("LLMC-E1101"),
                                HasSubstr("entries.decode.launches by +")));
  EXPECT_THAT(end.output,
              HasSubstr("linear for layers.*/layer.self_attn.k_proj: 0 -> "));
}

INSTANTIATE_TEST_SUITE_P(Plans, PlanBudgets, testing::ValuesIn(kPlans),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           for (char& c : name)
                             if (c == '-')
                               c = '_';
                           return name;
                         });

} // namespace
} // namespace llmc::test
