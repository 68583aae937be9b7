// SPDX-License-Identifier: Apache-2.0
// What connects the ranks of a plan, by its target and by what the ranks are.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/Launch.h"
#include "runtime/plan/PlanFile.h"

namespace llmrt {

/// One fabric for each rank of `plan`, for ranks that are threads. Those of a
/// cuda plan share the GPU of number `gpu`. Errors  DeviceUnsupported.
absl::StatusOr<std::vector<std::unique_ptr<Fabric>>>
createThreadFabrics(const fb::Plan& plan, int gpu,
                    const FabricOptions& options);

/// Joins the processes of a cuda plan over NCCL; null for other plans and for
/// one rank. `mpi` and its group `all` stay for what llmrt itself agrees on.
/// Collective. Errors  DeviceUnsupported, the same on all ranks.
absl::StatusOr<std::unique_ptr<Fabric>> joinGpus(const fb::Plan& plan,
                                                 const LaunchInfo& launch,
                                                 Fabric& mpi, Communicator& all,
                                                 const FabricOptions& options);

/// Returns the first error of any rank, the same on all. Collective.
absl::Status agreeOnReadiness(Communicator& all, const absl::Status& own);

} // namespace llmrt
