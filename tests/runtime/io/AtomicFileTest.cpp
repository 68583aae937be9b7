// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/AtomicFile.h"

#include "tests/runtime/io/FolderTest.h"
#include "tests/runtime/io/Golden.h"

#include "absl/strings/match.h"

#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

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

// Mounts a file system of 64 KiB over the folder, in a mount namespace of this
// process alone. Returns false where that is not allowed.
bool mountTinyDisk(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
    return false;
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k") == 0;
}

TEST_F(AtomicFileTest, FullDiskLeavesNothingBehind) {
  constexpr int kNotAllowed = 77;
  pid_t child = fork();
  if (child == 0) {
    if (!mountTinyDisk(folder_))
      _exit(kNotAllowed);
    absl::StatusOr<AtomicFile> file = AtomicFile::create(pathOf("a"));
    std::string piece(100'000, 'x');
    absl::Status status;
    for (int i = 0; i < 10 && status.ok(); ++i)
      status = file->append(piece);
    if (status.ok())
      status = file->commit();
    bool isDiskFull =
        absl::StrContains(status.message(), "LLMC-E0105: cannot write");
    bool isSameLater = file->append("x") == status && file->commit() == status;
    _exit(isDiskFull && isSameLater && numFiles() == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotAllowed)
    GTEST_SKIP() << "may not mount a file system of 64 KiB here";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

} // namespace
} // namespace llmrt
