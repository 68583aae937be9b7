// SPDX-License-Identifier: Apache-2.0
// Files appear whole or not at all.
#include "runtime/io/AtomicFile.h"

#include "tests/runtime/io/FolderTest.h"
#include "tests/runtime/io/Golden.h"

#include <fstream>
#include <gmock/gmock.h>

namespace llmrt {
namespace {

using ::testing::HasSubstr;

std::string readAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class AtomicFileTest : public testing::FolderTest {};

TEST_F(AtomicFileTest, AppearsOnCommitOnly) {
  absl::StatusOr<AtomicFile> file = AtomicFile::create(pathOf("a"));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->append("hello ").ok());
  ASSERT_TRUE(file->append("world").ok());
  EXPECT_FALSE(std::filesystem::exists(pathOf("a")));
  ASSERT_TRUE(file->overwrite(0, testing::bytesOf("J")).ok());
  EXPECT_EQ(file->sizeBytes(), 11);
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(readAll(pathOf("a")), "Jello world");
  EXPECT_EQ(numFiles(), 1u);
  EXPECT_FALSE(file->append("more").ok());
}

TEST_F(AtomicFileTest, ReplacesOnCommitAndKeepsTheOldFileOtherwise) {
  std::ofstream(pathOf("a")) << "old";
  {
    absl::StatusOr<AtomicFile> abandoned = AtomicFile::create(pathOf("a"));
    ASSERT_TRUE(abandoned.ok());
    ASSERT_TRUE(abandoned->append("half").ok());
  }
  EXPECT_EQ(readAll(pathOf("a")), "old");
  EXPECT_EQ(numFiles(), 1u);
  absl::StatusOr<AtomicFile> file = AtomicFile::create(pathOf("a"));
  ASSERT_TRUE(file->append("new").ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(readAll(pathOf("a")), "new");
}

TEST_F(AtomicFileTest, KeepsTheOrderOfSmallAndLargePieces) {
  absl::StatusOr<AtomicFile> file = AtomicFile::create(pathOf("a"));
  std::string expected;
  for (size_t count : {1u, 300'000u, 7u, 262'144u, 262'143u, 2u}) {
    std::string piece(count, static_cast<char>('a' + expected.size() % 26));
    expected += piece;
    ASSERT_TRUE(file->append(piece).ok());
  }
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(readAll(pathOf("a")), expected);
}

TEST_F(AtomicFileTest, FollowsALinkInsteadOfReplacingIt) {
  std::ofstream(pathOf("target")) << "old";
  std::filesystem::create_symlink(pathOf("target"), pathOf("link"));
  absl::StatusOr<AtomicFile> file = AtomicFile::create(pathOf("link"));
  ASSERT_TRUE(file->append("new").ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_TRUE(std::filesystem::is_symlink(pathOf("link")));
  EXPECT_EQ(readAll(pathOf("target")), "new");
}

TEST_F(AtomicFileTest, RefusesMissingFoldersAndDevices) {
  EXPECT_THAT(AtomicFile::create(pathOf("none/a")).status().message(),
              HasSubstr("LLMC-E0104: cannot create"));
  EXPECT_THAT(AtomicFile::create("/dev/null").status().message(),
              HasSubstr("LLMC-E0104: not a regular file: /dev/null"));
  EXPECT_THAT(AtomicFile::create(folder_).status().message(),
              HasSubstr("LLMC-E0104: not a regular file"));
}

} // namespace
} // namespace llmrt
