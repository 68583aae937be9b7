// SPDX-License-Identifier: Apache-2.0
#include "tools/llmrt/RankFabrics.h"

#include "runtime/base/Error.h"
#include "runtime/comm/cuda/SharedGpuFabric.h"
#include "runtime/comm/nccl/NcclFabric.h"
#include "runtime/plan/Mesh.h"

#include <cstring>

namespace llmrt {
namespace {

constexpr CollectiveTag kCheckTag{-1, "all_gather", "readiness", "llmrt"};

bool isForCuda(const fb::Plan& plan) {
  return plan.target()->string_view() == "cuda";
}

} // namespace

absl::StatusOr<std::vector<std::unique_ptr<Fabric>>>
createThreadFabrics(const fb::Plan& plan, int gpu,
                    const FabricOptions& options) {
  int size = numRanks(plan);
  if (size == 1 || !isForCuda(plan))
    return createLocalFabrics(size, options);
  LLMRT_ASSIGN_OR_RETURN(CudaTable cuda, loadCudaTable(gpu));
  return createSharedGpuFabrics(size, cuda, options);
}

absl::Status agreeOnReadiness(Communicator& all, const absl::Status& own) {
  constexpr size_t kBytes = 2048;

  struct Note {
    int32_t code;
    char text[kBytes - sizeof(int32_t)];
  };

  Note note{};
  note.code = static_cast<int32_t>(own.code());
  std::strncpy(note.text, std::string(own.message()).c_str(),
               sizeof(note.text) - 1);
  std::vector<Note> notes(all.size());
  LLMRT_RETURN_IF_ERROR(
      all.allGather(&note, notes.data(), sizeof(Note), kCheckTag));
  for (const Note& other : notes)
    if (other.code != 0)
      return absl::Status(static_cast<absl::StatusCode>(other.code),
                          other.text);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Fabric>> joinGpus(const fb::Plan& plan,
                                                 const LaunchInfo& launch,
                                                 Fabric& mpi, Communicator& all,
                                                 const FabricOptions& options) {
  if (!isForCuda(plan) || mpi.size() == 1)
    return std::unique_ptr<Fabric>();
  // What one rank lacks, all know before they wait for it.
  absl::Status own = NcclTable::load().status();
  if (own.ok())
    own = loadCudaTable(launch.localRank).status();
  LLMRT_RETURN_IF_ERROR(agreeOnReadiness(all, own));
  return joinNcclFabric(launch, &mpi, options);
}

} // namespace llmrt
