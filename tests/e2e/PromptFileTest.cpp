// SPDX-License-Identifier: Apache-2.0
// Files of prompts over data replicas that gather their parameters: with fewer
// prompts than sequences in flight, with different lengths and different stop
// points, the run ends and every prompt gets the text that it gets alone on one
// rank.
#include "tests/e2e/Workspace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <set>
#include <sstream>

namespace llmrt {
namespace {

using Json = nlohmann::json;

struct Arrangement {
  const char* name;
  std::string options;
};

void PrintTo(const Arrangement& arrangement, std::ostream* os) {
  *os << arrangement.name;
}

constexpr const char* kRun = "llmrt run %s --weights=random:7 --threads=1 "
                             "--tokenizer=tokenizer.json --quiet --timeout=30 ";

std::string runPlanFile(const std::string& plan) {
  std::string text = kRun;
  return text.replace(text.find("%s"), 2, plan);
}

/// Prompts of different lengths, some longer than a chunk of 16 tokens, and
/// different numbers of tokens to make, 0 and 1 among them.
std::vector<Json> makePrompts(int count) {
  constexpr int kLengths[] = {5, 40, 1, 17, 33, 16, 90};
  constexpr int kNewTokens[] = {9, 1, 25, 0, 4, 30, 12};
  std::vector<Json> prompts;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int c = 0; c < kLengths[i]; ++c)
      text += static_cast<char>('a' + (7 * i + 5 * c) % 26);
    prompts.push_back({{"prompt", text}, {"max_new_tokens", kNewTokens[i]}});
  }
  return prompts;
}

std::vector<Json> parseLines(const std::string& text) {
  std::vector<Json> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(Json::parse(line, nullptr, false));
  return lines;
}

class PromptFile : public testing::TestWithParam<Arrangement> {
protected:
  void SetUp() override {
    ASSERT_EQ(writeByteModel(workspace_), "");
    compile("one.fb", "--batch=1");
    compile("plan.fb", GetParam().options);
  }

  void compile(const std::string& plan, const std::string& options) {
    ToolEnd end = workspace_.run("llmc compile model.mlir -o " + plan +
                                 " --seq=128 --chunk=16 " + options);
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  std::vector<Json> results(const std::string& plan,
                            const std::vector<Json>& prompts,
                            const std::string& more) {
    std::string lines;
    for (const Json& prompt : prompts)
      lines += prompt.dump() + "\n";
    workspace_.write("in.jsonl", lines);
    ToolEnd end =
        workspace_.run("rm -f out.jsonl; " + runPlanFile(plan) +
                       "--prompts=in.jsonl --output=out.jsonl " + more);
    EXPECT_EQ(end.status, 0) << end.errors;
    EXPECT_FALSE(workspace_.exists("out.jsonl.partial"));
    return parseLines(workspace_.read("out.jsonl"));
  }

  Workspace workspace_;
};

TEST_P(PromptFile, EveryPromptGetsItsText) {
  for (const char* sampling : {"", "--temperature=0.8 --seed=11"}) {
    std::vector<Json> prompts = makePrompts(7);
    // A prompt alone: sampling depends on the line's number, so lines before it
    // stay.
    std::vector<Json> expected = results("one.fb", prompts, sampling);
    ASSERT_EQ(expected.size(), prompts.size());
    std::set<std::string> texts;
    for (const Json& line : expected)
      texts.insert(line.dump());
    EXPECT_GT(texts.size(), 5u);
    for (int count : {1, 2, 3, 7}) {
      std::vector<Json> found = results(
          "plan.fb", {prompts.begin(), prompts.begin() + count}, sampling);
      ASSERT_EQ(found.size(), static_cast<size_t>(count));
      for (int i = 0; i < count; ++i)
        EXPECT_EQ(found[i], expected[i]) << count << " prompts, line " << i;
    }
  }
}

TEST_P(PromptFile, OneAfterTheOtherIsTheSame) {
  std::vector<Json> prompts = makePrompts(3);
  std::vector<Json> together = results("plan.fb", prompts, "");
  ASSERT_EQ(together.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    ToolEnd end =
        workspace_.run(runPlanFile("one.fb") +
                       "--prompt=" + prompts[i]["prompt"].get<std::string>() +
                       " --max-new-tokens=" +
                       std::to_string(prompts[i]["max_new_tokens"].get<int>()));
    EXPECT_EQ(end.status, 0) << end.errors;
    EXPECT_EQ(end.output, together[i].value("completion", "?") + "\n");
  }
}

const Arrangement kArrangements[] = {
    {"dp2zero3", "--mesh=dp=2 --zero=3 --batch=1"},
    {"dp2zero3batch3", "--mesh=dp=2 --zero=3 --batch=3"},
    {"dp3zero3batch2", "--mesh=dp=3 --zero=3 --batch=2"},
    {"dp2tp2pp2zero3batch2", "--mesh=dp=2,tp=2,pp=2 --zero=3 --batch=2"},
    {"batch3", "--batch=3"},
    {"pp3batch2", "--mesh=pp=3 --batch=2"},
};

INSTANTIATE_TEST_SUITE_P(Setups, PromptFile, testing::ValuesIn(kArrangements),
                         [](const testing::TestParamInfo<Arrangement>& info) {
                           return info.param.name;
                         });

} // namespace
} // namespace llmrt
