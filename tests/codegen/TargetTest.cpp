// SPDX-License-Identifier: Apache-2.0
#include "compiler/target/Target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Target, NamesArchitectures) {
  auto cpu = parseTarget("cpu");
  ASSERT_TRUE(cpu.ok());
  EXPECT_FALSE(cpu->isCuda);
  EXPECT_EQ(cpu->text(), "cpu");
  auto cuda = parseTarget("cuda");
  ASSERT_TRUE(cuda.ok());
  EXPECT_TRUE(cuda->isCuda);
  EXPECT_THAT(cuda->architectures, ElementsAre(80, 90, 100));
  EXPECT_EQ(cuda->ptxArchitecture, 0);
  EXPECT_EQ(cuda->text(), "cuda:sm_80,sm_90,sm_100");
  auto ptx = parseTarget("cuda:ptx");
  ASSERT_TRUE(ptx.ok());
  EXPECT_THAT(ptx->architectures, ElementsAre());
  EXPECT_EQ(ptx->ptxArchitecture, 80);
  EXPECT_EQ(ptx->text(), "cuda:ptx");
  auto both = parseTarget("cuda:ptx,sm_120,sm_90,sm_120");
  ASSERT_TRUE(both.ok());
  EXPECT_THAT(both->architectures, ElementsAre(90, 120));
  EXPECT_EQ(both->ptxArchitecture, 90);
  EXPECT_EQ(both->text(), "cuda:sm_90,sm_120,ptx");
}

TEST(Target, TextNamesTheSameTarget) {
  for (const char* text : {"cpu", "cuda", "cuda:sm_90", "cuda:ptx,sm_100"}) {
    auto target = parseTarget(text);
    ASSERT_TRUE(target.ok());
    auto again = parseTarget(target->text());
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->text(), target->text());
    EXPECT_EQ(again->architectures, target->architectures);
    EXPECT_EQ(again->ptxArchitecture, target->ptxArchitecture);
  }
}

TEST(Target, SuggestsWhatMayBeMeant) {
  for (const auto& [text, suggestion] :
       std::vector<std::pair<const char*, const char*>>{
           {"cuda:sm_90a", "did you mean sm_90"},
           {"cuda:sm90", "did you mean sm_90"},
           {"cuda:PTX", "use sm_80"},
           {"cuda:", "use sm_80"},
           {"cuda:sm_80,", "use sm_80"},
           {"Cuda", "did you mean cuda"},
           {"gpu", "cpu"}}) {
    auto target = parseTarget(text);
    EXPECT_THAT(std::string(target.status().message()),
                testing::AllOf(HasSubstr("LLMC-E0102"), HasSubstr(suggestion)))
        << text;
  }
}

} // namespace
} // namespace llmc
