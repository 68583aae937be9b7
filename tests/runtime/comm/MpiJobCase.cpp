// SPDX-License-Identifier: Apache-2.0
// One rank of a job that fails: MpiJobTest starts it with mpirun and reads its
// lines.
//   mpi-job-case CASE      a case of FailureCases.h, or: ok, kill, exit
#include "tests/runtime/comm/FailureCases.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace llmrt;

namespace {

absl::Status playOk(Fabric& fabric) {
  auto comm = fabric.createCommunicator({0, 1});
  return comm.ok() ? (*comm)->barrier({}) : comm.status();
}

/// Rank 1 ends without a word.
absl::Status playSilentEnd(Fabric& fabric, const std::string& name) {
  absl::Status status = playOk(fabric);
  if (fabric.rank() == 1 && name == "kill")
    std::raise(SIGKILL);
  if (fabric.rank() == 1)
    std::exit(3);
  auto comm = fabric.createCommunicator({0, 1});
  return comm.ok() ? (*comm)->barrier({}) : comm.status();
}

} // namespace

int main(int argc, char** argv) {
  std::string name = argc > 1 ? argv[1] : "";
  FabricOptions options;
  bool endsSilently = name == "kill" || name == "exit";
  options.timeoutSeconds =
      endsSilently ? 300 : llmrt::testing::kCaseTimeoutSeconds;
  auto fabric = createMpiFabric(options);
  if (!fabric.ok()) {
    std::printf("no fabric: %s\n", fabric.status().ToString().c_str());
    return 2;
  }
  absl::Status status = name == "ok" ? playOk(**fabric)
                        : endsSilently
                            ? playSilentEnd(**fabric, name)
                            : llmrt::testing::playFailureCase(**fabric, name);
  std::printf("[rank %d: %s]\n", (*fabric)->rank(), status.ToString().c_str());
  std::fflush(stdout);
  if (status.ok())
    return 0;
  // mpirun kills the other ranks when the first one ends: let all of them
  // speak.
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  return 1;
}
