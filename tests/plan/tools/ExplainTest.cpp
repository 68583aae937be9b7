// SPDX-License-Identifier: Apache-2.0
#include "tests/plan/tools/RunLlmc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace llmc::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Explain : public testing::Test {
protected:
  static void SetUpTestSuite() {
    folder_ = new LlmcFolder;
    folder_->makePlan("p", kTinyLlama, "--mesh=dp=2,tp=2 --zero=3");
    folder_->makePlan("alone", kTinyLlama);
  }

  static void TearDownTestSuite() { delete folder_; }

  std::string output(const std::string& arguments) {
    ToolEnd end = folder_->run("llmc explain " + arguments);
    EXPECT_EQ(end.status, 0) << end.errors;
    return end.output;
  }

  static LlmcFolder* folder_;
};

LlmcFolder* Explain::folder_ = nullptr;

TEST_F(Explain, MemoryNamesTheLargestBuffers) {
  EXPECT_THAT(
      output("p memory"),
      AllOf(HasSubstr("each rank of stage 0 (ranks 0-3)"), HasSubstr("padding"),
            HasSubstr("largest buffers of stage 0"), HasSubstr("alive: ")));
}

TEST_F(Explain, CommunicationIsGroupedByPassKindAndAxis) {
  std::string text = output("p communication");
  EXPECT_THAT(text,
              HasSubstr("insert-zero-gathers        all_gather       dp"));
  EXPECT_THAT(text, HasSubstr("propagate-tensor-split"));
  EXPECT_THAT(text, HasSubstr("(sends "));
}

TEST_F(Explain, OneRankDoesNotCommunicate) {
  EXPECT_THAT(output("alone communication"), HasSubstr("does not communicate"));
}

TEST_F(Explain, AParameterHasAPlaceReadersAndWriters) {
  EXPECT_THAT(output("p model.layers.1.mlp.up_proj.weight"),
              AllOf(HasSubstr("tensor model.layers.1.mlp.up_proj.weight\n"),
                    HasSubstr("parameter model.layers.1.mlp.up_proj.weight: "
                              "f32 [128, 64]"),
                    HasSubstr("alive: always"),
                    HasSubstr("read by    stage 0 "
                              "prefill")));
}

TEST_F(Explain, AnOpHasItsCommands) {
  EXPECT_THAT(output("alone layers.2/layer.attention"),
              AllOf(HasSubstr("op layers.2/layer.attention\n"),
                    HasSubstr("launch attention"),
                    Not(HasSubstr("layers.1/"))));
}

TEST_F(Explain, AnActivationIsWrittenOnceAndThenRead) {
  EXPECT_THAT(output("alone decode.layers.2/layer.attention"),
              AllOf(HasSubstr("written by stage 0 decode"),
                    HasSubstr("read by    stage 0 decode"),
                    HasSubstr("alive: commands ")));
}

TEST_F(Explain, ACacheIsWrittenByTheKernelThatAppends) {
  EXPECT_THAT(output("alone layers.2.keys"),
              AllOf(HasSubstr("written by stage 0 decode"),
                    HasSubstr("launch rope_append"),
                    HasSubstr("read by    stage 0 decode"),
                    HasSubstr("launch attention")));
}

TEST_F(Explain, PartOfANameFindsAllUpToALimit) {
  std::string text = output("alone layer");
  EXPECT_THAT(text, HasSubstr("more: give more of the name"));
}

TEST_F(Explain, UnknownNamesAreSuggested) {
  ToolEnd end = folder_->run("llmc explain p q_porj");
  EXPECT_EQ(end.status, 1);
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E1104"));
  EXPECT_THAT(end.errors, HasSubstr("did you mean 'q_proj'"));
  end = folder_->run("llmc explain p memmory");
  EXPECT_THAT(end.errors, HasSubstr("did you mean 'memory'"));
}

} // namespace
} // namespace llmc::test
