// SPDX-License-Identifier: Apache-2.0
// A full disk gives LLMC-E0105 on every rank, and the older checkpoint stays. A
// program of its own, because it is skipped where a process may not mount a
// file system.
#include "runtime/checkpoint/CheckpointFolder.h"
#include "tests/runtime/checkpoint/CheckpointCases.h"
#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/match.h"

#include <cstdio>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace llmrt::testing {
namespace {

// Mounts a small file system over the folder, in a mount namespace of this
// process alone. Returns false where that is not allowed.
bool mountTinyDisk(const std::string& folder) {
  if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
    return false;
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=256k") == 0;
}

bool isFullDiskHandled(const std::string& folder) {
  for (const absl::Status& status : save(smallRequest(folder, 1), 2))
    if (!status.ok())
      return false;
  CheckpointRequest tooLarge = smallRequest(folder, 2);
  tooLarge.tensors.push_back(
      {"big", CheckpointPart::Optimizer, SourceType::F32, {1000, 100}});
  for (int numRanks : {1, 3})
    for (const absl::Status& status : save(tooLarge, numRanks)) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      if (!absl::StrContains(status.message(), "LLMC-E0105"))
        return false;
    }
  return compareWithValues(folder + "/step-00000001", 1).empty() &&
         listCheckpointSteps(folder) == std::vector<int64_t>{1} &&
         !std::filesystem::exists(folder + "/" + partialCheckpointName(2));
}

class CheckpointFullDiskTest : public FolderTest {};

TEST_F(CheckpointFullDiskTest, IsReportedByAllRanks) {
  constexpr int kNotAllowed = 77;
  pid_t child = fork();
  if (child == 0) {
    if (!mountTinyDisk(folder_))
      _exit(kNotAllowed);
    _exit(isFullDiskHandled(folder_) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotAllowed)
    GTEST_SKIP() << "may not mount a file system of 256 KiB here";
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

} // namespace
} // namespace llmrt::testing
