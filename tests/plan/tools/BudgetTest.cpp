// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/Budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmc {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::vector<Counter> kCounters = {
    {"plan_bytes", 1000, {{"tables and commands", 1000}}},
    {"memory_bytes.total", 4096, {}},
    {"memory_bytes.caches", 1024, {}},
    {"entries.decode.launches", 35, {{"linear for a", 30}, {"silu", 5}}},
    {"entries.decode.flops", 1000000, {}},
    {"entries.decode.sent_bytes.tp", 2560, {}},
};

std::string errorOf(const std::string& text) {
  auto budget = parseBudget(text, "b.json", kCounters);
  return budget.ok() ? "" : std::string(budget.status().message());
}

TEST(Budget, WhatIsWrittenIsRead) {
  auto budget = parseBudget(writeBudget(kCounters), "b.json", kCounters);
  ASSERT_TRUE(budget.ok()) << budget.status();
  EXPECT_EQ(budget->limits.size(), kCounters.size());
  for (const Counter& counter : kCounters) {
    EXPECT_EQ(budget->limits[counter.name], counter.value) << counter.name;
    EXPECT_EQ(budget->contributors[counter.name], counter.contributors);
  }
}

TEST(Budget, EveryNumberIsOptional) {
  auto budget = parseBudget(R"({"entries": {"decode": {"flops": 2.5e6}}})",
                            "b.json", kCounters);
  ASSERT_TRUE(budget.ok()) << budget.status();
  EXPECT_EQ(budget->limits.size(), 1u);
  EXPECT_EQ(budget->limits["entries.decode.flops"], 2500000);
}

TEST(Budget, AMemoryClassThatThePlanDoesNotUseMayBeLimited) {
  EXPECT_EQ(errorOf(R"({"memory_bytes": {"gradients": 0}})"), "");
}

struct BadBudget {
  const char* text;
  const char* code;
  const char* message;
};

class BadBudgets : public testing::TestWithParam<BadBudget> {};

TEST_P(BadBudgets, AreRefusedByName) {
  EXPECT_THAT(errorOf(GetParam().text),
              AllOf(HasSubstr(GetParam().code), HasSubstr("b.json: "),
                    HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadBudgets,
    testing::Values(
        BadBudget{"", "LLMC-E1102", "it is not JSON"},
        BadBudget{"{\"plan_bytes\": 1", "LLMC-E1102", "it is not JSON"},
        BadBudget{"[1]", "LLMC-E1102", "it is not a JSON object"},
        BadBudget{R"({"plan_byte": 1})", "LLMC-E1102",
                  "unknown key \"plan_byte\"; did you mean \"plan_bytes\""},
        BadBudget{R"({"memory_bytes": {"cache": 1}})", "LLMC-E1102",
                  "unknown key \"cache\" in memory_bytes; did you mean "
                  "\"caches\""},
        BadBudget{R"({"memory_bytes": 5})", "LLMC-E1102",
                  "\"memory_bytes\" is not a number but a group"},
        BadBudget{R"({"plan_bytes": {"a": 5}})", "LLMC-E1102",
                  "\"plan_bytes\" is a number"},
        BadBudget{R"({"plan_bytes": -1})", "LLMC-E1102",
                  "\"plan_bytes\" is -1"},
        BadBudget{R"({"plan_bytes": "1"})", "LLMC-E1102",
                  "\"plan_bytes\" is \"1\""},
        BadBudget{R"({"plan_bytes": null})", "LLMC-E1102",
                  "\"plan_bytes\" is null"},
        BadBudget{R"({"plan_bytes": 1e300})", "LLMC-E1102",
                  "\"plan_bytes\" is 1e+300"},
        BadBudget{R"({"entries": {"decod": {"launches": 1}}})", "LLMC-E1103",
                  "the plan has no entry \"decod\"; did you mean \"decode\""},
        BadBudget{R"({"entries": {"decode": {"launchs": 1}}})", "LLMC-E1102",
                  "unknown key \"launchs\" in entries.decode; did you mean "
                  "\"launches\""},
        BadBudget{R"({"entries": {"decode": {"sent_bytes": {"pp": 1}}}})",
                  "LLMC-E1103", "the plan has no mesh axis \"pp\""},
        BadBudget{R"({"contributors": 3})", "LLMC-E1102", "contributors"},
        BadBudget{R"({"contributors": {"kernels": {"a": "b"}}})", "LLMC-E1102",
                  "contributors.kernels.a"}));

} // namespace
} // namespace llmc
