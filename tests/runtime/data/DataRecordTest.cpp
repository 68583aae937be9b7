// SPDX-License-Identifier: Apache-2.0
// What a line may say, and what is said of lines that may not.
#include "runtime/data/DataRecord.h"

#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

struct BadLine {
  Objective objective;
  std::string line;
  ErrorCode code;
  const char* words;
};

TEST(DataRecord, SaysWhatIsWrong) {
  constexpr auto kPretrain = Objective::Pretrain;
  constexpr auto kSft = Objective::Sft;
  constexpr auto kDpo = Objective::Dpo;
  constexpr auto kMalformed = ErrorCode::DataLineMalformed;
  constexpr auto kUnfit = ErrorCode::DataShapeUnfit;
  for (const BadLine& bad : std::vector<BadLine>{
           {kPretrain, "", kMalformed, "not a JSON object"},
           {kPretrain, "plain text", kMalformed, "not a JSON object"},
           {kPretrain, "[1]", kMalformed, "not a JSON object"},
           {kPretrain, "{", kMalformed, "not JSON"},
           {kPretrain, "{\"text\": \"a\"} x", kMalformed, "not JSON"},
           {kPretrain, "{\"text\": \"a\"}{\"text\": \"a\"}", kMalformed,
            "not JSON"},
           {kPretrain, "{\"text\": \"a\nb\"}", kMalformed, "not JSON"},
           {kPretrain, "{\"text\": \"\\ud800\"}", kMalformed, "not JSON"},
           {kPretrain, "{\"text\": NaN}", kMalformed, "not JSON"},
           {kPretrain, "{\"text\": \"a\xC0\xAF\"}", kMalformed,
            "not valid UTF-8 at byte 12"},
           {kPretrain, "{\"text\": \"a\xED\xA0\x80\"}", kMalformed, "UTF-8"},
           {kPretrain, "{\"text\": 3}", kMalformed, "\"text\" is not a text"},
           {kPretrain, "{\"text\": null}", kMalformed, "lacks \"text\""},
           {kPretrain, "{\"Text\": \"a\"}", kMalformed, "lacks \"text\""},
           {kPretrain, "{\"prompt\": \"a\", \"completion\": \"b\"}", kUnfit,
            "the objective pretrain needs \"text\""},
           {kSft, "{\"text\": \"a\"}", kUnfit, "it has \"text\""},
           {kSft, "{\"prompt\": \"a\"}", kMalformed, "lacks \"prompt\" and"},
           {kSft, "{\"prompt\": \"a\", \"completion\": 1}", kMalformed,
            "\"completion\" is not a text"},
           {kSft,
            "{\"prompt\": \"a\", \"completion\": \"b\", \"messages\": []}",
            kMalformed, "is not clear"},
           {kSft, "{\"messages\": \"a\"}", kMalformed, "is not a list"},
           {kSft, "{\"messages\": []}", kMalformed, "at least one message"},
           {kSft, "{\"messages\": {}}", kMalformed, "at least one message"},
           {kSft, "{\"messages\": [\"a\"]}", kMalformed,
            "message 1 of \"messages\""},
           {kSft, "{\"messages\": [{\"role\": \"user\", \"content\": null}]}",
            kMalformed, "message 1 of \"messages\""},
           {kSft, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}",
            kUnfit, "the objective sft needs"},
           {kDpo, "{\"messages\": []}", kUnfit, "the objective dpo needs"},
           {kDpo, "{\"prompt\": \"a\", \"chosen\": \"b\"}", kMalformed,
            "lacks \"prompt\", \"chosen\" and \"rejected\""},
       }) {
    DataRecord record;
    RecordFault fault;
    EXPECT_FALSE(parseRecord(bad.line, bad.objective, record, fault))
        << bad.line;
    EXPECT_EQ(fault.code, bad.code) << bad.line;
    EXPECT_THAT(fault.what, HasSubstr(bad.words)) << bad.line;
    EXPECT_THAT(std::string(makeRecordError(fault, "d.jsonl", 7).message()),
                HasSubstr(errorCodeName(bad.code) + ": d.jsonl: line 7: "));
  }
}

TEST(DataRecord, ReadsTheShapes) {
  DataRecord record;
  RecordFault fault;
  ASSERT_TRUE(parseRecord("  {\"text\": \"a\\u00e9\\n\", \"id\": [{}]}\r",
                          Objective::Pretrain, record, fault));
  EXPECT_EQ(record.shape, RecordShape::Text);
  EXPECT_EQ(record.answer.text, "a\xC3\xA9\n");
  // Fields of other shapes are no matter where the objective says which.
  ASSERT_TRUE(parseRecord("{\"text\": \"a\", \"prompt\": \"p\", "
                          "\"completion\": \"c\", \"chosen\": \"x\"}",
                          Objective::Sft, record, fault));
  EXPECT_EQ(record.shape, RecordShape::Completion);
  EXPECT_EQ(record.prompt.text, "p");
  EXPECT_EQ(record.answer.text, "c");
  ASSERT_TRUE(parseRecord(
      "{\"messages\": [{\"role\": \"user\", \"content\": \"u\", \"x\": 1}, "
      "{\"role\": \"assistant\", \"content\": \"a\"}], \"prompt\": \"p\"}",
      Objective::Sft, record, fault));
  EXPECT_EQ(record.shape, RecordShape::Messages);
  ASSERT_EQ(record.answer.messages.size(), 2u);
  EXPECT_EQ(record.answer.messages[1].content, "a");
  ASSERT_TRUE(parseRecord(
      "{\"prompt\": \"p\", \"rejected\": \"r\", \"chosen\": "
      "[{\"role\": \"assistant\", \"content\": \"c\"}], \"messages\": 1}",
      Objective::Dpo, record, fault));
  EXPECT_EQ(record.shape, RecordShape::Preference);
  EXPECT_TRUE(record.answer.isConversation);
  EXPECT_EQ(record.rejected.text, "r");
}

TEST(DataRecord, CutsLines) {
  LineCutter lines("\xEF\xBB\xBF{1}\r\n\n \t\r\n{2}\n{3}");
  DataLine line;
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line.text, "{1}\r");
  EXPECT_EQ(line.number, 1);
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line.text, "{2}");
  EXPECT_EQ(line.number, 4);
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line.text, "{3}");
  EXPECT_FALSE(lines.next(line));
  EXPECT_EQ(lines.positionBytes(), 20);
  EXPECT_FALSE(LineCutter("").next(line));
  EXPECT_FALSE(LineCutter("\n\n").next(line));
}

} // namespace
} // namespace llmrt
