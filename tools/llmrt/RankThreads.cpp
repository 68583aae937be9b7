// SPDX-License-Identifier: Apache-2.0
// Launchers bind processes to CPUs in many ways; comparing the affinity masks
// of the processes of a host covers them all.
#include "tools/llmrt/RankThreads.h"

#include "runtime/base/Error.h"

#include <algorithm>
#include <cstring>
#include <sched.h>
#include <unistd.h>

namespace llmrt {
namespace {

constexpr CollectiveTag kTag{-1, "all_gather", "CPU masks", "llmrt"};

struct Place {
  char host[256];
  cpu_set_t cpus;
};

} // namespace

int numUsableCpus() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
    return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  return std::max(1, CPU_COUNT(&cpus));
}

absl::StatusOr<int> agreeOnThreads(Communicator& all,
                                   std::optional<int> wanted) {
  Place own{};
  gethostname(own.host, sizeof(own.host) - 1);
  sched_getaffinity(0, sizeof(own.cpus), &own.cpus);
  std::vector<Place> places(all.size());
  LLMRT_RETURN_IF_ERROR(
      all.allGather(&own, places.data(), sizeof(Place), kTag));
  if (wanted)
    return *wanted;
  int sharers = 0;
  for (const Place& other : places) {
    cpu_set_t both;
    CPU_AND(&both, &own.cpus, &other.cpus);
    sharers += std::strcmp(own.host, other.host) == 0 && CPU_COUNT(&both) > 0;
  }
  return std::max(1, numUsableCpus() / std::max(1, sharers));
}

} // namespace llmrt
