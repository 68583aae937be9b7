// SPDX-License-Identifier: Apache-2.0
// The golden bytes were written by tensorboard 2.21: Event messages of its own
// protocol buffers through its RecordWriter.
#include "runtime/training/TensorBoardWriter.h"

#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The data of each record; checks the checksums.
std::vector<std::string> recordsOf(const std::string& bytes) {
  std::vector<std::string> records;
  for (size_t cursor = 0; cursor < bytes.size();) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + cursor, 8);
    records.push_back(bytes.substr(cursor + 12, length));
    EXPECT_EQ(bytes.substr(cursor, length + 16), tfRecord(records.back()));
    cursor += length + 16;
  }
  return records;
}

class TensorBoardWriterTest : public testing::FolderTest {};

TEST_F(TensorBoardWriterTest, ChecksumOfRfc3720) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
}

TEST_F(TensorBoardWriterTest, BytesOfTensorBoard) {
  std::string event =
      scalarEvent(1234.5, 300, {{"loss", 2.5}, {"learning_rate", 0.1}});
  EXPECT_EQ(absl::BytesToHexString(tfRecord(event)),
            "31000000000000009d8383e90900000000004a934010ac022a230a0b0a046c6f73"
            "7315000020400a140a0d6c6561726e696e675f7261746515cdcccc3dbcab8100");
}

TEST_F(TensorBoardWriterTest, BeginsAsTensorBoardsOwnFiles) {
  auto writer = TensorBoardWriter::create(pathOf("runs/a"), std::nullopt);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_THAT(writer->path(), HasSubstr("/runs/a/events.out.tfevents."));
  ASSERT_TRUE(writer->write(1, {{"loss", 2.5}}).ok());
  ASSERT_TRUE(writer->write(2, {{"loss", NAN}}).ok());
  std::vector<std::string> records = recordsOf(readAll(writer->path()));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].substr(9), "\x1a\rbrain.Event:2");
  EXPECT_EQ(absl::BytesToHexString(records[1].substr(9)), "1001"
                                                          "2a0d"
                                                          "0a0b"
                                                          "0a046c6f7373"
                                                          "1500002040");
}

TEST_F(TensorBoardWriterTest, AResumedRunPurgesLaterSteps) {
  auto writer = TensorBoardWriter::create(pathOf("a"), 7);
  ASSERT_TRUE(writer.ok()) << writer.status();
  std::vector<std::string> records = recordsOf(readAll(writer->path()));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(absl::BytesToHexString(records[1].substr(9)), "10083a020801");
  // A second writer of the same second has a file of its own.
  auto second = TensorBoardWriter::create(pathOf("a"), 7);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE(second->path(), writer->path());
}

TEST_F(TensorBoardWriterTest, RefusesAFolderThatCannotBe) {
  std::ofstream(pathOf("file")) << "";
  EXPECT_THAT(
      std::string(
          TensorBoardWriter::create(pathOf("file/a"), {}).status().message()),
      HasSubstr("LLMC-E0104"));
}

} // namespace
} // namespace llmrt
