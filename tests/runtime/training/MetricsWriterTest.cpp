// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/MetricsWriter.h"

#include "tests/runtime/io/FolderTest.h"

#include <cmath>
#include <fstream>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class MetricsWriterTest : public testing::FolderTest {};

TEST_F(MetricsWriterTest, WritesFieldsInOrder) {
  EXPECT_EQ(metricsLine(3, {{"loss", 2.5},
                            {"a", int64_t{-7}},
                            {"learning_rate", 3e-4},
                            {"third", 1.0 / 3},
                            {"whole", 2.0},
                            {"skipped", true},
                            {"grad_norm", NAN},
                            {"note", std::string("\"\n\xFF")}}),
            "{\"step\":3,\"loss\":2.5,\"a\":-7,\"learning_rate\":0.0003,"
            "\"third\":0.3333333333333333,\"whole\":2.0,\"skipped\":true,"
            "\"grad_norm\":null,\"note\":\"\\\"\\n\xEF\xBF\xBD\"}\n");
}

TEST_F(MetricsWriterTest, EachLineIsThereAtOnce) {
  std::ofstream(pathOf("m")) << "{\"step\":7}\n{\"st";
  auto writer = MetricsWriter::create(pathOf("m"));
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ(readAll(pathOf("m")), "");
  ASSERT_TRUE(writer->write(1, {{"loss", 2.0}}).ok());
  EXPECT_EQ(readAll(pathOf("m")), "{\"step\":1,\"loss\":2.0}\n");
  MetricsWriter moved = *std::move(writer);
  ASSERT_TRUE(moved.write(2, {}).ok());
  EXPECT_THAT(readAll(pathOf("m")), HasSubstr("\n{\"step\":2}\n"));
}

TEST_F(MetricsWriterTest, ResumesAtACheckpoint) {
  std::ofstream(pathOf("m")) << "{\"step\":1}\n{\"step\":2, \"eval\":1}\n"
                                "{\"step\":3}\n{\"step\":2}\n{\"step\":4,\"lo";
  {
    auto writer = MetricsWriter::resume(pathOf("m"), 2);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer->write(3, {}).ok());
  }
  EXPECT_EQ(readAll(pathOf("m")),
            "{\"step\":1}\n{\"step\":2, \"eval\":1}\n{\"step\":2}\n"
            "{\"step\":3}\n");
  EXPECT_TRUE(MetricsWriter::resume(pathOf("new"), 2).ok());
  EXPECT_EQ(readAll(pathOf("new")), "");
}

TEST_F(MetricsWriterTest, RefusesAFileOfAnotherKind) {
  for (const char* text :
       {"hello\n", "[1]\n", "{\"step\":1}\n{\"step\":\"2\"}\n",
        "{\"step\":1}\n{}\n"}) {
    std::ofstream(pathOf("m")) << text;
    EXPECT_THAT(
        std::string(MetricsWriter::resume(pathOf("m"), 9).status().message()),
        AllOf(HasSubstr("LLMC-E1310: line "), HasSubstr(pathOf("m"))));
    EXPECT_EQ(readAll(pathOf("m")), text);
  }
  EXPECT_THAT(
      std::string(MetricsWriter::create(pathOf("no/m")).status().message()),
      HasSubstr("LLMC-E0104"));
}

// --metrics=train.jsonl, where the data were meant.
TEST_F(MetricsWriterTest, ReplacesMetricsOnly) {
  for (const char* text : {"hello", "{\"text\":\"a\"}\n", "LLMCPLAN\n"}) {
    std::ofstream(pathOf("m")) << text;
    EXPECT_THAT(
        std::string(MetricsWriter::create(pathOf("m")).status().message()),
        HasSubstr("LLMC-E1310: line 1"));
    EXPECT_EQ(readAll(pathOf("m")), text);
  }
  for (const char* text : {"", "{\"step\":1,\"lo", "{\"step\":1}\n"}) {
    std::ofstream(pathOf("m")) << text;
    EXPECT_TRUE(MetricsWriter::create(pathOf("m")).ok()) << text;
  }
}

TEST_F(MetricsWriterTest, FullDisk) {
  if (!std::filesystem::exists("/dev/full"))
    GTEST_SKIP() << "no /dev/full";
  auto writer = MetricsWriter::create("/dev/full");
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_THAT(std::string(writer->write(1, {}).message()),
              HasSubstr("LLMC-E0105"));
}

} // namespace
} // namespace llmrt
