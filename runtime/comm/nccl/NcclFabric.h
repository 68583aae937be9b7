// SPDX-License-Identifier: Apache-2.0
// The fabric of GPU ranks: NCCL moves and adds, a board at rank 0 carries what
// NCCL does not (unique ids, aborts, who waits for whom), a thread of each rank
// watches. Sums are NCCL's own: identical from run to run on the same GPUs, not
// to other back-ends.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/Launch.h"
#include "runtime/comm/cuda/CudaTable.h"
#include "runtime/comm/nccl/NcclTable.h"
#include "runtime/comm/rendezvous/Rendezvous.h"

namespace llmrt {

struct NcclFabricParts {
  NcclTable nccl;
  CudaTable cuda; // of this rank's device
  std::unique_ptr<Rendezvous> rendezvous;
};

/// Makes the fabric of one rank. `timeoutSeconds` also limits the creation of a
/// group, but to no less than 2 s.
/// Errors  TransportFailed if the device has no stream for it.
absl::StatusOr<std::unique_ptr<Fabric>>
createNcclFabric(NcclFabricParts parts, const FabricOptions& options);

/// The same for a process of a launcher, on the device of its local rank. `mpi`
/// carries the address of rank 0 if the launcher is an MPI; else null.
/// Errors  NcclUnavailable; DeviceUnsupported; RendezvousFailed.
absl::StatusOr<std::unique_ptr<Fabric>>
joinNcclFabric(const LaunchInfo& launch, Fabric* mpi,
               const FabricOptions& options);

} // namespace llmrt
