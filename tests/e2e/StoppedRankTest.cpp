// SPDX-License-Identifier: Apache-2.0
// One process of an MPI run stops answering: the others end within the time
// limit, with a message that names the rank, the command, what it moves and the
// pass that put it there; and the job ends with a non-zero exit.
#include "tests/e2e/Workspace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

namespace llmrt {
namespace {

using testing::HasSubstr;

/// Ids of the processes below `parent` that run llmrt, by MPI rank.
std::map<int, pid_t> findRanks(pid_t parent) {
  std::map<int, pid_t> ranks;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos)
      continue;
    auto read = [&](const char* file) {
      std::ifstream stream(entry.path() / file, std::ios::binary);
      return std::string(std::istreambuf_iterator<char>(stream), {});
    };
    pid_t process = std::stoi(name);
    // mpirun gives each rank a process group of its own: follow the parents
    // instead.
    std::string environment = '\0' + read("environ");
    std::string key = std::string(1, '\0') +
                      "LLMC_STOPPED_RANK_TEST=" + std::to_string(parent);
    size_t at =
        environment.find(std::string(1, '\0') + "OMPI_COMM_WORLD_RANK=");
    if (environment.find(key) == std::string::npos || at == std::string::npos ||
        read("comm") != "llmrt\n")
      continue;
    ranks[std::atoi(environment.c_str() + at + 22)] = process;
  }
  return ranks;
}

struct Arrangement {
  const char* name;
  int numRanks;
  const char* options;
  int stopped; // the rank
};

void PrintTo(const Arrangement& arrangement, std::ostream* os) {
  *os << arrangement.name;
}

class StoppedRank : public testing::TestWithParam<Arrangement> {};

TEST_P(StoppedRank, IsNamedAndEndsTheRun) {
  const Arrangement& arrangement = GetParam();
  if (mpiLauncher(1).empty())
    GTEST_SKIP() << "no mpirun on this machine";
  Workspace workspace;
  ASSERT_EQ(writeByteModel(workspace), "");
  ToolEnd compiled = workspace.run(
      std::string("llmc compile model.mlir -o plan.fb --seq=512 --chunk=32 ") +
      arrangement.options);
  ASSERT_EQ(compiled.status, 0) << compiled.errors;
  std::string lines;
  for (int i = 0; i < 20000; ++i)
    lines += "{\"prompt\": \"line " + std::to_string(i) + "\"}\n";
  workspace.write("in.jsonl", lines);
  std::string key = std::to_string(::getpid());
  pid_t job = workspace.start(
      "job", "export LLMC_STOPPED_RANK_TEST=" + key + "; exec " +
                 mpiLauncher(arrangement.numRanks) +
                 " run plan.fb --weights=random:1 --threads=1 --timeout=3 "
                 "--tokenizer=tokenizer.json --quiet --prompts=in.jsonl "
                 "--output=out.jsonl --max-new-tokens=400");
  using Clock = std::chrono::steady_clock;
  auto limit = Clock::now() + std::chrono::seconds(30);
  while (workspace.read("out.jsonl.partial").size() < 2000 &&
         Clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::map<int, pid_t> ranks = findRanks(::getpid());
  EXPECT_EQ(ranks.size(), static_cast<size_t>(arrangement.numRanks));
  Clock::time_point begin = Clock::now();
  if (ranks.count(arrangement.stopped))
    ::kill(ranks[arrangement.stopped], SIGSTOP);
  ToolEnd end = workspace.finish("job", job, 40);
  double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  // In case the launcher left it.
  for (auto [rank, process] : findRanks(::getpid()))
    ADD_FAILURE() << "rank " << rank
                  << " is still there: " << ::kill(process, SIGKILL);
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_LT(seconds, 20);
  EXPECT_NE(end.status, 0);
  EXPECT_NE(end.status, 124) << "hung";
  EXPECT_THAT(end.errors, HasSubstr("LLMC-E0701"));
  EXPECT_THAT(end.errors,
              HasSubstr("rank " + std::to_string(arrangement.stopped) +
                        " did not come"));
  // "to AllReduce of layer.mlp.down_proj (command 30, put there by ...)"
  EXPECT_TRUE(std::regex_search(
      end.errors,
      std::regex("to [A-Za-z_]+ of [^ ]+ ?[^ ]* \\(command -?[0-9]+, "
                 "put there by [^ ]+\\)")))
      << end.errors;
  // Once; the stopped rank may say it again when the launcher ends it.
  std::set<std::string> messages;
  std::stringstream printed(end.errors);
  for (std::string line; std::getline(printed, line);)
    if (line.find("LLMC-E") != std::string::npos)
      messages.insert(line);
  EXPECT_EQ(messages.size(), 1u) << end.errors;
  EXPECT_FALSE(workspace.exists("out.jsonl"));
}

const Arrangement kArrangements[] = {
    {"tp2second", 2, "--mesh=tp=2", 1},
    {"tp2first", 2, "--mesh=tp=2", 0},
    {"pp2first", 2, "--mesh=pp=2", 0},
    {"pp2last", 2, "--mesh=pp=2", 1},
    {"dp2zero3", 2, "--mesh=dp=2 --zero=3 --batch=2", 1},
    {"dp2tp2pp2zero3", 8, "--mesh=dp=2,tp=2,pp=2 --zero=3", 5},
};

INSTANTIATE_TEST_SUITE_P(Setups, StoppedRank, testing::ValuesIn(kArrangements),
                         [](const testing::TestParamInfo<Arrangement>& info) {
                           return info.param.name;
                         });

} // namespace
} // namespace llmrt
