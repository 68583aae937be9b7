// SPDX-License-Identifier: Apache-2.0
// Failures of whole MPI jobs, seen from outside: what each rank printed, the
// exit code of mpirun, and the time it took. This program is no rank itself.
#include "tests/runtime/comm/FailureCases.h"

#include "absl/strings/str_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <sys/wait.h>

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

struct JobResult {
  int exitCode = -1;
  std::string output;
  double seconds = 0;
};

JobResult runJob(int numRanks, const std::string& name) {
  std::string command = absl::StrFormat(
      "%s --allow-run-as-root --oversubscribe -n %d %s/mpi-job-case %s 2>&1",
      LLMC_MPIRUN, numRanks, std::getenv("LLMC_BIN_DIR"), name);
  JobResult result;
  auto start = std::chrono::steady_clock::now();
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe)
    return result;
  char text[4096];
  while (size_t count = fread(text, 1, sizeof(text), pipe))
    result.output.append(text, count);
  int status = pclose(pipe);
  result.exitCode = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return result;
}

class MpiFailure : public ::testing::TestWithParam<FailureCase> {};

TEST_P(MpiFailure, EndsEveryRank) {
  JobResult result = runJob(GetParam().numRanks, GetParam().name);
  EXPECT_NE(result.exitCode, 0) << result.output;
  EXPECT_LT(result.seconds, 30);
  size_t found = 0;
  for (size_t at = result.output.find(GetParam().expected);
       at != std::string::npos;
       at = result.output.find(GetParam().expected, at + 1))
    ++found;
  EXPECT_EQ(found, GetParam().numRanks) << result.output;
}

INSTANTIATE_TEST_SUITE_P(Cases, MpiFailure, ::testing::ValuesIn(failureCases()),
                         [](const auto& info) {
                           return std::string(info.param.name);
                         });

TEST(MpiJob, EndsWellWithoutAFailure) {
  JobResult result = runJob(2, "ok");
  EXPECT_EQ(result.exitCode, 0) << result.output;
  EXPECT_THAT(result.output, HasSubstr("[rank 0: OK]"));
  EXPECT_THAT(result.output, HasSubstr("[rank 1: OK]"));
}

TEST(MpiJob, AKilledRankEndsTheJob) {
  JobResult result = runJob(2, "kill");
  EXPECT_NE(result.exitCode, 0) << result.output;
  EXPECT_LT(result.seconds, 30) << "the others waited for the dead rank";
  EXPECT_THAT(result.output, HasSubstr("signal 9"));
}

TEST(MpiJob, ARankThatExitsWithoutAbortEndsTheJob) {
  JobResult result = runJob(2, "exit");
  EXPECT_NE(result.exitCode, 0) << result.output;
  EXPECT_LT(result.seconds, 30) << "the others waited for the rank that left";
}

} // namespace
} // namespace llmrt::testing
