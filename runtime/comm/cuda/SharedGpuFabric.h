// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of one process and share one GPU: `local` with calls
// on streams. So every sharded plan runs on a single GPU. Sums are in rank
// order, with the bits of `local`.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/cuda/CudaTable.h"

namespace llmrt {

/// Makes the fabrics of `numRanks` threads whose devices are `cuda.device`.
/// Calls without a stream are those of createLocalFabrics(). A call on a stream
/// meets the other threads on the host to enqueue, never to wait for the
/// device; on the device ranks are ordered by events only. Errors
/// createCommunicator(): BadCommunicatorArgument above kMaxSummands
///         ranks. Calls on a stream that is being captured: DeviceUnsupported.
std::vector<std::unique_ptr<Fabric>>
createSharedGpuFabrics(int numRanks, const CudaTable& cuda,
                       const FabricOptions& options);

} // namespace llmrt
