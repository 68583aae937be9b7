// SPDX-License-Identifier: Apache-2.0
// The token file as a cache: made once, used again, made again when anything
// differs, and never torn.
#include "runtime/data/BuildTokenFile.h"
#include "tests/runtime/data/DataTest.h"

#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

namespace llmrt {
namespace {

using ::testing::AllOf;
using testing::fillAll;
using ::testing::HasSubstr;
using testing::idsOf;

class BuildTokenFileTest : public testing::DataTest {
protected:
  // Builds and returns whether the file was used again.
  bool isReused(const DataOptions& options) {
    auto report = buildTokenFile(options);
    EXPECT_TRUE(report.ok()) << report.status();
    if (report.ok())
      report_ = *report;
    return report.ok() && report->isReused;
  }
};

TEST_F(BuildTokenFileTest, IsUsedAgainUntilSomethingDiffers) {
  std::string data = write("data.jsonl", "{\"text\": \"abc\"}\n");
  DataOptions options = optionsOf({data});
  EXPECT_EQ(tokenFilePath(options), data + ".tokens");
  EXPECT_FALSE(isReused(options));
  EXPECT_EQ(report_.rebuildReason, "");
  EXPECT_TRUE(isReused(options));
  EXPECT_EQ(report_.header.numTokens, 4u);

  // Touched and copied files are the same, changed ones of one size are not.
  std::filesystem::last_write_time(data, {});
  EXPECT_TRUE(isReused(options));
  write("data.jsonl", "{\"text\": \"abd\"}\n");
  EXPECT_FALSE(isReused(options));
  EXPECT_EQ(report_.rebuildReason, "the data have changed");
  EXPECT_EQ(fillAll(*open(options, {.numRows = 3, .isEvaluation = true})).ids,
            idsOf("abd"));

  options.parsesSpecial = false;
  EXPECT_FALSE(isReused(options));
  EXPECT_THAT(report_.rebuildReason, HasSubstr("other settings"));
  options.endToken = 'x';
  EXPECT_FALSE(isReused(options));
  options.skipsBadRecords = true;
  EXPECT_FALSE(isReused(options));
  EXPECT_TRUE(isReused(options));

  // A tokenizer whose files differ is another one.
  write("tokenizer.json", testing::byteTokenizerJson() + " ");
  auto other = Tokenizer::load(pathOf("tokenizer.json"));
  ASSERT_TRUE(other.ok());
  options.tokenizer = other->get();
  EXPECT_FALSE(isReused(options));
  EXPECT_EQ(numFiles(), 3u);
}

TEST_F(BuildTokenFileTest, ManyFilesMakeOne) {
  std::vector<std::string> files = {write("a.jsonl", "{\"text\": \"ab\"}\n"),
                                    write("empty.jsonl", ""),
                                    write("b.jsonl", "\n{\"text\": \"cd\"}")};
  DataOptions options = optionsOf(files);
  EXPECT_EQ(tokenFilePath(options), files[0] + "+2.tokens");
  auto source = open(options, {.numRows = 6, .isEvaluation = true});
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(fillAll(*source).ids, idsOf("ab^cd^"));
  EXPECT_EQ(source->trace(0, 3)->file, files[2]);
  EXPECT_EQ(source->trace(0, 3)->line, 2);

  // In a folder of caches, files of one name do not meet.
  std::filesystem::create_directory(pathOf("cache"));
  std::filesystem::create_directory(pathOf("other"));
  options.cacheFolder = pathOf("cache");
  DataOptions second = options;
  second.files = {write("other/a.jsonl", "{\"text\": \"ef\"}")};
  options.files = {files[0]};
  EXPECT_NE(tokenFilePath(options), tokenFilePath(second));
  EXPECT_FALSE(isReused(options));
  EXPECT_FALSE(isReused(second));
  EXPECT_TRUE(isReused(options));
  EXPECT_THAT(tokenFilePath(second), HasSubstr("/cache/a.jsonl."));
}

TEST_F(BuildTokenFileTest, MalformedLinesStopOrAreCounted) {
  std::string data = write("data.jsonl", "{\"text\": \"ab\"}\r\n"
                                         "\r\n"
                                         "{\"text\": \"c\xFF\"}\n"
                                         "{\"text\": \"\"}\n"
                                         "not JSON\n"
                                         "{\"text\": \"de\"}");
  DataOptions options = optionsOf({data});
  EXPECT_THAT(buildError(options),
              AllOf(HasSubstr("LLMC-E1201: " + data + ": line 3: "),
                    HasSubstr("byte 12")));
  EXPECT_EQ(numFiles(), 2u); // nothing is left behind
  options.skipsBadRecords = true;
  auto source = open(options, {.numRows = 6, .isEvaluation = true});
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(fillAll(*source).ids, idsOf("ab^de^"));
  DataStatistics statistics = source->statistics();
  EXPECT_EQ(statistics.numRecords, 3);
  EXPECT_EQ(statistics.numSkipped, 2);
  EXPECT_EQ(statistics.numEmpty, 1);
  EXPECT_EQ(statistics.numDocuments, 2);
  ASSERT_EQ(report_.skippedLines.size(), 2u);
  EXPECT_THAT(report_.skippedLines[1], HasSubstr("line 5: it is not a JSON"));
}

TEST_F(BuildTokenFileTest, RefusesWhatIsNotOneKindOfRecord) {
  auto errorOf = [&](const std::string& text, Objective objective,
                     bool skips = false) {
    DataOptions options = optionsOf({write("data.jsonl", text)}, objective);
    options.chatTemplate = *ChatTemplate::byName("chatml");
    options.skipsBadRecords = skips;
    return buildError(options);
  };
  std::string completion = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  std::string messages = "{\"messages\": [{\"role\": \"assistant\", "
                         "\"content\": \"a\"}]}\n";
  for (bool skips : {false, true}) {
    EXPECT_THAT(errorOf(completion + messages, Objective::Sft, skips),
                AllOf(HasSubstr("LLMC-E1204"), HasSubstr("line 2"),
                      HasSubstr("it has \"messages\", the records before "
                                "\"prompt\" and \"completion\"")));
    EXPECT_THAT(errorOf(completion, Objective::Pretrain, skips),
                HasSubstr("LLMC-E1203"));
    EXPECT_THAT(errorOf("", Objective::Pretrain, skips),
                HasSubstr("LLMC-E1205"));
    EXPECT_THAT(errorOf("\n\r\n", Objective::Pretrain, skips),
                HasSubstr("LLMC-E1205"));
    EXPECT_THAT(errorOf("{\"text\": \"\"}", Objective::Pretrain, skips),
                AllOf(HasSubstr("LLMC-E1205"),
                      HasSubstr("1 records, of which 1 are empty")));
  }
  EXPECT_THAT(errorOf("Plain text.\nMore.\n", Objective::Pretrain),
              HasSubstr("LLMC-E1202"));
  EXPECT_THAT(errorOf("[\n{\"text\": \"a\"}\n]\n", Objective::Pretrain),
              AllOf(HasSubstr("LLMC-E1202"), HasSubstr("one JSON list")));
  EXPECT_THAT(errorOf("x\n\xFF\n", Objective::Pretrain, true),
              AllOf(HasSubstr("LLMC-E1205"), HasSubstr("2 skipped lines")));
  DataOptions options = optionsOf({write("m.jsonl", messages)}, Objective::Sft);
  options.skipsBadRecords = true;
  EXPECT_THAT(buildError(options), HasSubstr("LLMC-E1206"));
  EXPECT_THAT(buildError(optionsOf({pathOf("absent.jsonl")})),
              HasSubstr("LLMC-E0103"));
  EXPECT_THAT(buildError(optionsOf({})), HasSubstr("LLMC-E1205"));
  options.cacheFolder = pathOf("absent");
  EXPECT_THAT(buildError(options), HasSubstr("LLMC-E0104"));
}

// Each single byte changed, each length cut: found, and the file made again.
TEST_F(BuildTokenFileTest, IsMadeAgainWhenDamaged) {
  DataOptions options = optionsOf(
      {write("data.jsonl", "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n"
                           "{\"prompt\": \"e\", \"completion\": \"f\"}\n")},
      Objective::Sft);
  ASSERT_FALSE(isReused(options));
  std::string good = read("data.jsonl.tokens");
  constexpr size_t kHeader = sizeof(TokenFileHeader), kTokens = 8 * 2;
  ASSERT_EQ(good.size(), kHeader + kTokens + 2 * 24 + 8 + 16);
  auto expectFound = [&](const std::string& bytes, size_t at) {
    write("data.jsonl.tokens", bytes);
    auto file = TokenFile::open(pathOf("data.jsonl.tokens"));
    absl::Status status = file.ok() ? file->verifyTokens() : file.status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("LLMC-E1208")) << at;
    if (at % 31 != 0)
      return;
    EXPECT_FALSE(isReused(options)) << at;
    EXPECT_THAT(report_.rebuildReason, HasSubstr("LLMC-E1208")) << at;
    EXPECT_EQ(read("data.jsonl.tokens"), good) << at;
  };
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] ^= 0x10;
    expectFound(bad, at);
    expectFound(good.substr(0, at), at);
  }
  expectFound(good + "x", good.size());
  std::string newer = good;
  newer[8] = 2;
  write("data.jsonl.tokens", newer);
  EXPECT_FALSE(isReused(options));
  EXPECT_THAT(report_.rebuildReason, HasSubstr("it has version 2"));
}

TEST_F(BuildTokenFileTest, OtherRanksSeeWhatTheFirstOneMade) {
  std::string data = write("data.jsonl", "{\"text\": \"abc\"}\n");
  DataOptions options = optionsOf({data});
  auto statusOf = [&] {
    return std::string(openTokenFile(options).status().message());
  };
  EXPECT_THAT(statusOf(), HasSubstr("LLMC-E0103"));
  ASSERT_FALSE(isReused(options));
  auto first = openTokenFile(options), second = openTokenFile(options);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->token(2), second->token(2));

  options.parsesSpecial = false;
  EXPECT_THAT(statusOf(), HasSubstr("LLMC-E1207"));
  options.parsesSpecial = true;
  write("data.jsonl", "{\"text\": \"abcd\"}\n");
  EXPECT_THAT(statusOf(), HasSubstr("LLMC-E1207"));
  // A file that is replaced stays what it was for those who have it open.
  ASSERT_FALSE(isReused(options));
  EXPECT_EQ(first->numTokens(), 4);
  EXPECT_EQ(first->verifyTokens(), absl::OkStatus());
  EXPECT_EQ(openTokenFile(options)->numTokens(), 5);
}

// A token beyond the vocabulary, in a file that was whole when it was opened.
TEST_F(BuildTokenFileTest, ChecksIdsWhereTheyAreUsed) {
  DataOptions options =
      optionsOf({write("data.jsonl", "{\"text\": \"abc\"}\n")});
  auto source = open(options, {.numRows = 4});
  ASSERT_TRUE(source.ok());
  std::fstream file(pathOf("data.jsonl.tokens"),
                    std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(160 + 3);
  file.put(0x7F);
  file.close();
  TrainingBatch batch;
  EXPECT_THAT(std::string(source->fill({}, batch).message()),
              HasSubstr("LLMC-E1208"));
}

TEST_F(BuildTokenFileTest, ReadsOneHugeLine) {
  std::string text(3 << 20, 'x');
  DataOptions options =
      optionsOf({write("data.jsonl", "{\"text\": \"" + text + "\"}\n")});
  auto source = open(options, {.numRows = 1024});
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->numTokens(), (3 << 20) + 1);
  EXPECT_EQ(source->numSequences(), 3 << 10);
}

TEST_F(BuildTokenFileTest, ReportsProgressAndStops) {
  std::string lines;
  for (int i = 0; i < 3000; ++i)
    lines += "{\"text\": \"" + std::string(1000, 'a') + "\"}\n";
  DataOptions options = optionsOf({write("data.jsonl", lines)});
  auto size = static_cast<int64_t>(lines.size());
  int numCalls = 0;
  auto stopped = buildTokenFile(options, [&](const BuildProgress& progress) {
    return progress.bytesDone < size / 2;
  });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(numFiles(), 2u);
  int64_t bytesBefore = 0;
  auto report = buildTokenFile(options, [&](const BuildProgress& progress) {
    ++numCalls;
    EXPECT_EQ(progress.bytesTotal, size);
    EXPECT_GE(progress.bytesDone, bytesBefore);
    bytesBefore = progress.bytesDone;
    return true;
  });
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(bytesBefore, size);
  EXPECT_GE(numCalls, 3);
}

// Killed in the middle of writing: the file that was there stays, and the next
// build is not disturbed by what the dead one left.
TEST_F(BuildTokenFileTest, AKillLeavesNoTornFile) {
  DataOptions options =
      optionsOf({write("data.jsonl", "{\"text\": \"abc\"}\n")});
  ASSERT_FALSE(isReused(options));
  std::string before = read("data.jsonl.tokens");
  std::string lines;
  for (int i = 0; i < 3000; ++i)
    lines += "{\"text\": \"" + std::string(1000, 'a') + "\"}\n";
  write("data.jsonl", lines);
  pid_t child = fork();
  if (child == 0) {
    auto report = buildTokenFile(options, [&](const BuildProgress& progress) {
      if (progress.bytesDone > 2'000'000)
        kill(getpid(), SIGKILL);
      return true;
    });
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read("data.jsonl.tokens"), before);
  EXPECT_FALSE(isReused(options));
  EXPECT_EQ(report_.header.numDocuments, 3000u);
  EXPECT_TRUE(isReused(options));
}

} // namespace
} // namespace llmrt
