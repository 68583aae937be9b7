// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/OutputPaths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

class OutputPaths : public testing::Test {
protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "output-paths";
    fs::remove_all(folder_);
    fs::create_directories(folder_ + "/model");
    for (const char* name :
         {"plan.fb", "prompts.jsonl", "model/model.safetensors",
          "model/config.json", "model/notes.npy"})
      std::ofstream(folder_ + "/" + name) << "x";
  }

  void TearDown() override { fs::remove_all(folder_); }

  std::string at(const std::string& name) const { return folder_ + "/" + name; }

  std::string message(std::vector<OutputPath> outputs) const {
    return std::string(
        checkOutputPaths(outputs,
                         {at("plan.fb"), at("prompts.jsonl"), at("model"),
                          "random:1", "", at("not-there")})
            .message());
  }

  std::string folder_;
};

TEST_F(OutputPaths, AcceptsOtherFiles) {
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({{"--output", ""}, {"-o", "-"}, {"--trace", "/dev/null"}}),
            "");
  EXPECT_EQ(message({{"--output", at("new.jsonl")},
                     {"--trace", at("model/notes.npy")},
                     {"--output-logits", at("model/new.json")}}),
            "");
}

TEST_F(OutputPaths, RefusesWhatIsRead) {
  fs::create_symlink(at("plan.fb"), at("link.fb"));
  for (const char* name :
       {"plan.fb", "prompts.jsonl", "link.fb", "model/../plan.fb",
        "model/model.safetensors", "model/config.json"})
    EXPECT_THAT(message({{"--output", at(name)}}),
                testing::AllOf(testing::HasSubstr("LLMC-E0106"),
                               testing::HasSubstr("--output " + at(name))));
}

TEST_F(OutputPaths, RefusesOneFileForTwo) {
  EXPECT_THAT(message({{"--trace", at("a.json")},
                       {"--memory-report", at("model/../a.json")}}),
              testing::HasSubstr("--trace and --memory-report"));
}

TEST_F(OutputPaths, RefusesAFolderThatIsNotThere) {
  EXPECT_THAT(message({{"--trace", at("nowhere/a.json")}}),
              testing::HasSubstr("LLMC-E0104"));
}

} // namespace
} // namespace llmrt
