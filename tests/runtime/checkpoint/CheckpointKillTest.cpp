// SPDX-License-Identifier: Apache-2.0
// A save that is killed leaves the checkpoints that were there, or the new one
// too; never half of one, and never fewer.
#include "runtime/checkpoint/CheckpointFolder.h"
#include "tests/runtime/checkpoint/CheckpointCases.h"
#include "tests/runtime/io/FolderTest.h"

#include "absl/strings/str_cat.h"

#include <chrono>
#include <csignal>
#include <gmock/gmock.h>
#include <random>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace llmrt::testing {
namespace {

class CheckpointKillTest : public FolderTest {
protected:
  // Says what is wrong with what is visible; at least `least` must be there.
  std::string checkFolder(const std::string& folder, int64_t least) {
    std::vector<int64_t> steps = listCheckpointSteps(folder);
    for (int64_t step : steps) {
      std::string problem =
          compareWithValues(folder + "/" + checkpointName(step), step);
      if (!problem.empty())
        return absl::StrCat("step ", step, ": ", problem);
    }
    auto found = findNewestCheckpoint(folder, nullptr);
    if (!found.ok())
      return least < 0 ? "" : std::string(found.status().message());
    if (!found->messages.empty())
      return found->messages[0];
    return found->step >= least ? "" : absl::StrCat("only step ", found->step);
  }
};

CheckpointRequest keepOne(const std::string& folder, int64_t step) {
  CheckpointRequest request = smallRequest(folder, step);
  request.keep = 1;
  return request;
}

TEST_F(CheckpointKillTest, AtRandomMoments) {
  std::mt19937 random(1); // of moments; the schedule of threads is its own
  std::string folder = pathOf("c");
  int64_t firstStep = 1;
  for (int trial = 0; trial < 60; ++trial) {
    int pipeFds[2];
    ASSERT_EQ(pipe(pipeFds), 0);
    pid_t child = fork();
    if (child == 0) {
      for (int64_t step = firstStep;; ++step) {
        for (const absl::Status& status : save(keepOne(folder, step), 2))
          if (!status.ok())
            _exit(1);
        if (write(pipeFds[1], &step, sizeof(step)) != sizeof(step))
          _exit(1);
      }
    }
    close(pipeFds[1]);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 40'000));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the save itself failed";
    int64_t lastCommitted = firstStep - 1, step = 0;
    while (read(pipeFds[0], &step, sizeof(step)) == sizeof(step))
      lastCommitted = step;
    close(pipeFds[0]);
    ASSERT_EQ(checkFolder(folder, lastCommitted == 0 ? -1 : lastCommitted), "");
    if (auto found = findNewestCheckpoint(folder, nullptr); found.ok())
      firstStep = found->step + 1;
  }
  std::printf("60 kills, step %d reached\n", static_cast<int>(firstStep));
  // What the killed ones left is cleared by the next save.
  ASSERT_TRUE(save(keepOne(folder, firstStep), 1)[0].ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder),
                          std::filesystem::directory_iterator()),
            1);
}

// Lets a child go from system call to system call and kills it at the n-th
// border. Returns false if it ended before; -1 where tracing is not allowed.
int killAtSystemCall(const std::function<void()>& body, int n) {
  pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0)
      _exit(77);
    raise(SIGSTOP);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFSTOPPED(status))
    return -1;
  for (int i = 0; i < n; ++i) {
    ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
      return 0;
    }
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return 1;
}

// Every state of the file system that one rank goes through.
TEST_F(CheckpointKillTest, AtEverySystemCall) {
  std::string folder = pathOf("c");
  for (bool isSameStep : {false, true}) {
    int64_t next = isSameStep ? 1 : 2;
    int n = 0, numOld = 0;
    for (;; ++n) {
      std::filesystem::remove_all(folder);
      ASSERT_TRUE(save(keepOne(folder, 1), 1)[0].ok());
      int result = killAtSystemCall(
          [&] {
            if (!save(keepOne(folder, next), 1)[0].ok())
              _exit(1);
          },
          n);
      if (result < 0)
        GTEST_SKIP() << "may not trace a process here";
      ASSERT_EQ(checkFolder(folder, result == 0 ? next : 1), "") << "at " << n;
      if (result == 0)
        break;
      numOld += listCheckpointSteps(folder) == std::vector<int64_t>{1};
    }
    EXPECT_GT(n, 100);
    std::printf("killed at %d borders of system calls, %d before the new one "
                "was there\n",
                n, numOld);
  }
}

} // namespace
} // namespace llmrt::testing
