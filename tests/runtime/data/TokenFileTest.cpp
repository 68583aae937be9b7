// SPDX-License-Identifier: Apache-2.0
// The bytes of a token file, for small and large vocabularies.
#include "runtime/data/TokenFileWriter.h"
#include "tests/runtime/io/FolderTest.h"

#include <gmock/gmock.h>

#include <fstream>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

class TokenFileTest : public testing::FolderTest {
protected:
  absl::StatusOr<TokenFileWriter> make(Objective objective,
                                       uint32_t vocabSize) {
    TokenFileHeader header;
    header.objective = static_cast<uint32_t>(objective);
    header.vocabSize = vocabSize;
    return TokenFileWriter::create(pathOf("t"), header);
  }
};

TEST_F(TokenFileTest, ReadsBackWhatWasWritten) {
  // 65,536 tokens are the last that two bytes hold.
  for (uint32_t vocabSize : {300u, 0x10000u, 0x10001u, 200'000u})
    for (Objective objective : {Objective::Pretrain, Objective::Sft}) {
      auto writer = make(objective, vocabSize);
      ASSERT_TRUE(writer.ok()) << writer.status();
      auto last = static_cast<int32_t>(vocabSize - 1);
      // The second document crosses a word of the bits.
      SampleTokens first{{0, 7, last}, {false, true, true}};
      SampleTokens second{std::vector<int32_t>(90, 5), {}};
      for (int i = 0; i < 90; ++i)
        second.counted.push_back(i % 3 == 0);
      ASSERT_EQ(writer->append(first, 0, 1), absl::OkStatus());
      ASSERT_EQ(writer->append(second, 1, int64_t{1} << 40), absl::OkStatus());
      ASSERT_EQ(writer->commit({{10, 1}, {20, 2}}), absl::OkStatus());
      auto file = TokenFile::open(pathOf("t"));
      ASSERT_TRUE(file.ok()) << file.status();
      EXPECT_EQ(file->verifyTokens(), absl::OkStatus());
      EXPECT_EQ(file->header().tokenBytes, vocabSize <= 0x10000 ? 2u : 4u);
      ASSERT_EQ(file->numTokens(), 93);
      EXPECT_EQ(file->token(2), last);
      EXPECT_EQ(file->token(92), 5);
      EXPECT_EQ(file->documentBegin(1), 3);
      EXPECT_EQ(file->documentBegin(2), 93);
      EXPECT_EQ(file->document(1).line, uint64_t{1} << 40);
      EXPECT_EQ(file->sources()[1].sizeBytes, 20u);
      for (int64_t i = 0; i < 93; ++i) {
        EXPECT_EQ(file->findDocument(i), i < 3 ? 0 : 1);
        bool isCounted = i < 3 ? i > 0 : (i - 3) % 3 == 0;
        EXPECT_EQ(file->isCounted(i),
                  objective == Objective::Pretrain || isCounted)
            << i;
      }
    }
}

TEST_F(TokenFileTest, RefusesIdsOutsideTheVocabulary) {
  for (int32_t id : {-1, 300, 1 << 20}) {
    auto writer = make(Objective::Pretrain, 300);
    ASSERT_TRUE(writer.ok());
    EXPECT_THAT(std::string(writer->append({{1, id}, {}}, 0, 1).message()),
                HasSubstr("LLMC-E0904"));
  }
  EXPECT_EQ(numFiles(), 0u);
}

TEST_F(TokenFileTest, RefusesOtherFiles) {
  for (const char* text : {"", "LLMCTOKS", "LLMCPLANxxxxxxxx"}) {
    std::ofstream(pathOf("t")) << text << std::string(*text ? 200 : 0, 'x');
    EXPECT_THAT(std::string(TokenFile::open(pathOf("t")).status().message()),
                HasSubstr("LLMC-E1208"));
  }
}

} // namespace
} // namespace llmrt
