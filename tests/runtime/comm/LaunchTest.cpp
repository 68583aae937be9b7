// SPDX-License-Identifier: Apache-2.0
#include "runtime/comm/Launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace llmrt {
namespace {

using ::testing::HasSubstr;
using Environment = std::map<std::string, std::string>;

absl::StatusOr<LaunchInfo> detect(const Environment& environment) {
  return detectLaunch([&](const char* name) -> std::optional<std::string> {
    auto place = environment.find(name);
    if (place == environment.end())
      return std::nullopt;
    return place->second;
  });
}

void expectLaunch(const Environment& environment, Launcher kind, int rank,
                  int localRank, int worldSize) {
  auto launch = detect(environment);
  ASSERT_TRUE(launch.ok()) << launch.status();
  EXPECT_EQ(launch->kind, kind);
  EXPECT_EQ(launch->rank, rank);
  EXPECT_EQ(launch->localRank, localRank);
  EXPECT_EQ(launch->worldSize, worldSize);
}

void expectContradiction(const Environment& environment,
                         const std::string& words) {
  auto launch = detect(environment);
  ASSERT_FALSE(launch.ok());
  EXPECT_THAT(std::string(launch.status().message()), HasSubstr("LLMC-E0704"));
  EXPECT_THAT(std::string(launch.status().message()), HasSubstr(words));
}

const Environment kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "5"},
                              {"OMPI_COMM_WORLD_SIZE", "8"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}};
const Environment kTorchrun = {{"RANK", "3"},
                               {"LOCAL_RANK", "1"},
                               {"WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "10.0.0.1"},
                               {"MASTER_PORT", "29500"}};

Environment with(Environment environment, const Environment& more) {
  for (const auto& [name, value] : more)
    environment[name] = value;
  return environment;
}

Environment without(Environment environment, const std::string& name) {
  environment.erase(name);
  return environment;
}

TEST(Launch, NoLauncherIsOneRank) { expectLaunch({}, Launcher::None, 0, 0, 1); }

TEST(Launch, OpenMpi) {
  expectLaunch(kOpenMpi, Launcher::OpenMpi, 5, 1, 8);
  // mpirun inside a Slurm allocation: the batch script's own variables stay.
  expectLaunch(with(kOpenMpi, {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}),
               Launcher::OpenMpi, 5, 1, 8);
}

TEST(Launch, SlurmStepWithPmi) {
  Environment step = {
      {"SLURM_PROCID", "2"}, {"SLURM_NTASKS", "4"}, {"SLURM_LOCALID", "0"}};
  expectLaunch(with(step, {{"PMIX_RANK", "2"}}), Launcher::Slurm, 2, 0, 4);
  expectLaunch(with(step, {{"PMI_RANK", "2"}}), Launcher::Slurm, 2, 0, 4);
  // A shell of the allocation, not a step.
  expectLaunch(step, Launcher::None, 0, 0, 1);
  expectLaunch(
      {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"PMIX_RANK", "0"}},
      Launcher::None, 0, 0, 1);
}

TEST(Launch, Torchrun) {
  expectLaunch(kTorchrun, Launcher::Torchrun, 3, 1, 4);
  auto launch = detect(kTorchrun);
  EXPECT_EQ(launch->masterAddress, "10.0.0.1");
  EXPECT_EQ(launch->masterPort, 29500);
}

TEST(Launch, SageMakerHosts) {
  expectLaunch(
      {{"SM_HOSTS", R"(["algo-1", "algo-2"])"}, {"SM_CURRENT_HOST", "algo-2"}},
      Launcher::SageMaker, 1, 0, 2);
  auto launch = detect(
      {{"SM_HOSTS", R"(["algo-1", "algo-2"])"}, {"SM_CURRENT_HOST", "algo-2"}});
  EXPECT_EQ(launch->masterAddress, "algo-1");
  EXPECT_EQ(launch->masterPort, 29500);
  // Its launchers of processes come first.
  Environment hosts = {{"SM_HOSTS", R"(["algo-1"])"},
                       {"SM_CURRENT_HOST", "algo-1"}};
  expectLaunch(with(kOpenMpi, hosts), Launcher::OpenMpi, 5, 1, 8);
  expectLaunch(with(kTorchrun, hosts), Launcher::Torchrun, 3, 1, 4);
}

TEST(Launch, SameWordsOfTwoLaunchersAgree) {
  Environment both =
      with(kOpenMpi, with(kTorchrun, {{"RANK", "5"}, {"WORLD_SIZE", "8"}}));
  expectLaunch(both, Launcher::OpenMpi, 5, 1, 8);
  EXPECT_EQ(detect(both)->masterPort, 29500);
}

TEST(Launch, Contradictions) {
  expectContradiction(with(kOpenMpi, kTorchrun),
                      "Open MPI says rank 5 of 8, but RANK and WORLD_SIZE say "
                      "3 of 4");
  expectContradiction(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "8"}}),
                      "is not below OMPI_COMM_WORLD_SIZE=8");
  expectContradiction(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "x"}}),
                      "is not a number: \"x\"");
  expectContradiction(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "-1"}}),
                      "is not a number");
  expectContradiction(without(kOpenMpi, "OMPI_COMM_WORLD_SIZE"),
                      "OMPI_COMM_WORLD_RANK is set without");
  expectContradiction(without(kTorchrun, "MASTER_ADDR"), "without MASTER_ADDR");
  expectContradiction({{"SM_CURRENT_HOST", "algo-1"}}, "only one of SM_HOSTS");
  expectContradiction(
      {{"SM_HOSTS", R"(["algo-1"])"}, {"SM_CURRENT_HOST", "algo-3"}},
      "is not in");
  expectContradiction({{"SM_HOSTS", "algo-1"}, {"SM_CURRENT_HOST", "algo-1"}},
                      "not a list");
}

TEST(Launch, CpuPlansNeedMpi) {
  EXPECT_TRUE(checkLaunchForCpu(*detect({}), 4).ok());
  EXPECT_TRUE(checkLaunchForCpu(*detect(kOpenMpi), 8).ok());
  absl::Status wrongCount = checkLaunchForCpu(*detect(kOpenMpi), 4);
  EXPECT_THAT(std::string(wrongCount.message()),
              HasSubstr("the plan has 4 ranks, but Open MPI started 8"));
  absl::Status torchrun = checkLaunchForCpu(*detect(kTorchrun), 4);
  EXPECT_THAT(std::string(torchrun.message()), HasSubstr("LLMC-E0705"));
  EXPECT_THAT(std::string(torchrun.message()), HasSubstr("mpirun -n 4"));
}

} // namespace
} // namespace llmrt
