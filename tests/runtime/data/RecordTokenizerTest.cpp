// SPDX-License-Identifier: Apache-2.0
// Ids and masks against those of transformers; fixtures/makeDataFixtures.py.
#include "runtime/data/RecordTokenizer.h"
#include "tests/runtime/data/DataTest.h"

namespace llmrt {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using testing::Ids;
using testing::kEndOfText;

json readJson(const std::string& path) {
  const char* root = std::getenv("LLMC_SOURCE_DIR");
  std::ifstream in(std::string(root ? root : ".") + "/tests/runtime/" + path);
  return json::parse(in);
}

class RecordTokenizerTest : public testing::DataTest {
protected:
  absl::StatusOr<RecordTokenizer> make(RecordTokenizerOptions options) const {
    return RecordTokenizer::create(*tokenizer_, std::move(options));
  }

  // Replaces the byte tokenizer by the fixture's.
  void loadFixtureTokenizer(const json& fixture) {
    json base =
        readJson("tokenizer/fixtures/variants.json")["bases"]["byteLevel"];
    for (const json& token : fixture["addedTokens"])
      base["added_tokens"].push_back(token);
    auto loaded = Tokenizer::load(write("fixture.json", base.dump()));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer_ = std::move(*loaded);
  }
};

// Reads a line and makes its samples; a fault is a failure.
std::vector<SampleTokens> tokenizeLine(RecordTokenizer& tokenizer,
                                       const json& line, Objective objective) {
  DataRecord record;
  RecordFault fault;
  std::vector<SampleTokens> samples;
  EXPECT_TRUE(parseRecord(line.dump(), objective, record, fault)) << fault.what;
  EXPECT_TRUE(tokenizer.tokenize(record, samples, fault)) << fault.what;
  return samples;
}

std::string faultOf(RecordTokenizer& tokenizer, const std::string& line,
                    Objective objective) {
  DataRecord record;
  RecordFault fault;
  std::vector<SampleTokens> samples;
  EXPECT_TRUE(parseRecord(line, objective, record, fault)) << fault.what;
  EXPECT_FALSE(tokenizer.tokenize(record, samples, fault)) << line;
  return fault.what;
}

void expectSample(const SampleTokens& sample, const json& expected) {
  EXPECT_EQ(sample.ids, expected["ids"].get<Ids>()) << expected;
  std::vector<int> counted(sample.counted.begin(), sample.counted.end());
  EXPECT_EQ(counted, expected["counted"].get<std::vector<int>>()) << expected;
}

TEST_F(RecordTokenizerTest, MasksConversationsAsTransformersDoes) {
  json fixture = readJson("data/fixtures/samples.json");
  loadFixtureTokenizer(fixture);
  for (const json& expected : fixture["conversations"]) {
    RecordTokenizerOptions options;
    options.objective = Objective::Sft;
    options.chatTemplate =
        *ChatTemplate::byName(expected["template"].get<std::string>());
    auto tokenizer = make(options);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    auto samples = tokenizeLine(
        *tokenizer, {{"messages", expected["messages"]}}, Objective::Sft);
    ASSERT_EQ(samples.size(), 1u) << expected;
    expectSample(samples[0], expected);
  }
}

TEST_F(RecordTokenizerTest, MasksCompletionsAsOffsetsDo) {
  json fixture = readJson("data/fixtures/samples.json");
  loadFixtureTokenizer(fixture);
  RecordTokenizerOptions options;
  options.objective = Objective::Sft;
  options.endToken = fixture["endToken"].get<int32_t>();
  auto tokenizer = make(options);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const json& expected : fixture["pairs"]) {
    auto samples = tokenizeLine(*tokenizer, expected, Objective::Sft);
    ASSERT_EQ(samples.size(), 1u) << expected;
    expectSample(samples[0], expected);
  }
}

// An answer's span begins where the text that asks for it ends.
TEST_F(RecordTokenizerTest, AnswersBeginBehindTheGenerationPrompt) {
  std::vector<ChatMessage> messages = {{"user", "ab"},
                                       {"assistant", "cd"},
                                       {"user", "ef"},
                                       {"assistant", " gh "}};
  for (const std::string& name : ChatTemplate::names()) {
    auto chat = ChatTemplate::byName(name);
    ASSERT_TRUE(chat.ok());
    auto whole = chat->renderForTraining(messages);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(whole->text,
              *chat->render(messages, {.addGenerationPrompt = false}));
    ASSERT_EQ(whole->answers.size(), 2u) << name;
    for (const AnswerSpan& answer : whole->answers) {
      auto before =
          chat->render(absl::MakeConstSpan(messages).first(answer.message));
      ASSERT_TRUE(before.ok());
      EXPECT_EQ(whole->text.substr(0, answer.begin), *before) << name;
      EXPECT_THAT(whole->text.substr(answer.begin, answer.end - answer.begin),
                  HasSubstr(answer.message == 1 ? "cd" : "gh"))
          << name;
    }
  }
}

TEST_F(RecordTokenizerTest, JoinsPromptAndAnswerOfAPreference) {
  RecordTokenizerOptions options;
  options.objective = Objective::Dpo;
  options.chatTemplate = *ChatTemplate::byName("chatml");
  options.endToken = kEndOfText;
  auto tokenizer = make(options);
  ASSERT_TRUE(tokenizer.ok());
  // Six ways to say the same: a list stands for a conversation, and a prompt
  // may be repeated in the answers.
  json user = {{{"role", "user"}, {"content", "q"}}};
  json yes = {{{"role", "assistant"}, {"content", "y"}}};
  json no = {{{"role", "assistant"}, {"content", "n"}}};
  json userYes = {user[0], yes[0]}, userNo = {user[0], no[0]};
  auto expected = tokenizeLine(
      *tokenizer, {{"prompt", user}, {"chosen", yes}, {"rejected", no}},
      Objective::Dpo);
  ASSERT_EQ(expected.size(), 2u);
  EXPECT_EQ(expected[0].ids, testing::idsOf("[user\nq]\n[assistant\ny]\n"));
  EXPECT_EQ(expected[1].ids, testing::idsOf("[user\nq]\n[assistant\nn]\n"));
  for (const json& line :
       {json{{"prompt", "q"}, {"chosen", yes}, {"rejected", no}},
        json{{"prompt", user}, {"chosen", "y"}, {"rejected", "n"}},
        json{{"prompt", "q"}, {"chosen", userYes}, {"rejected", userNo}},
        json{{"prompt", user}, {"chosen", userYes}, {"rejected", no}}}) {
    auto samples = tokenizeLine(*tokenizer, line, Objective::Dpo);
    ASSERT_EQ(samples.size(), 2u);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(samples[i].ids, expected[i].ids) << line;
      EXPECT_EQ(samples[i].counted, expected[i].counted) << line;
    }
  }
  auto plain = tokenizeLine(
      *tokenizer, {{"prompt", "q"}, {"chosen", "y"}, {"rejected", ""}},
      Objective::Dpo);
  EXPECT_EQ(plain[0].ids, testing::idsOf("qy^"));
  EXPECT_EQ(plain[1].ids, testing::idsOf("q^"));
}

TEST_F(RecordTokenizerTest, SaysWhatTheTemplateRefuses) {
  RecordTokenizerOptions options;
  options.objective = Objective::Sft;
  auto without = make(options);
  options.chatTemplate = *ChatTemplate::byName("llama2");
  auto tokenizer = make(options);
  ASSERT_TRUE(tokenizer.ok() && without.ok());
  std::string twoUsers = R"({"messages": [{"role": "user", "content": "a"},)"
                         R"({"role": "user", "content": "b"}]})";
  EXPECT_THAT(faultOf(*tokenizer, twoUsers, Objective::Sft),
              HasSubstr("message 2"));
  EXPECT_THAT(faultOf(*tokenizer,
                      R"({"messages": [{"role": "tool", "content": "a"}]})",
                      Objective::Sft),
              HasSubstr("the role tool"));
  EXPECT_THAT(faultOf(*tokenizer,
                      R"({"messages": [{"role": "user", "content": "a"}]})",
                      Objective::Sft),
              HasSubstr("no message of the assistant"));
  EXPECT_THAT(faultOf(*without, twoUsers, Objective::Sft),
              HasSubstr("no chat template"));
}

// What a text spells is a token or not, as asked.
TEST_F(RecordTokenizerTest, ReadsSpecialTokensAsAsked) {
  json line = {{"text", "a<|im_end|>"}};
  RecordTokenizerOptions options;
  auto parses = make(options);
  options.parsesSpecial = false;
  auto spells = make(options);
  ASSERT_TRUE(parses.ok() && spells.ok());
  EXPECT_EQ(tokenizeLine(*parses, line, Objective::Pretrain)[0].ids,
            (Ids{'a', testing::kTurnEnd}));
  EXPECT_EQ(tokenizeLine(*spells, line, Objective::Pretrain)[0].ids.size(),
            11u);
}

} // namespace
} // namespace llmrt
