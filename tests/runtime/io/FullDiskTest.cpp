// SPDX-License-Identifier: Apache-2.0
// A full disk gives LLMC-E0105 and leaves nothing behind. A program of its own,
// because it is skipped where a process may not mount a file system.
#include "runtime/io/AtomicFile.h"

#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/match.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace llmrt {
namespace {

class FullDiskTest : public testing::FolderTest {};

// Mounts a file system of 64 KiB over the folder, in a mount namespace of this
// process alone. Returns false where that is not allowed.
bool mountTinyDisk(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
    return false;
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k") == 0;
}

TEST_F(FullDiskTest, LeavesNothingBehind) {
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
