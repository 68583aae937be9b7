// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the device that a plan's target names, and what a
// plan needs of it and of the fabric.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/executor/Executor.h"

namespace llmrt {

/// Errors  DeviceUnsupported, OutOfMemory, DeviceFailed.
absl::StatusOr<std::unique_ptr<Device>>
createDevice(const fb::Plan& plan, const ExecutorOptions& options);

/// Refuses a plan for another number of ranks. Errors  MeshMismatch.
absl::Status checkMesh(const fb::Plan& plan, const Fabric& fabric);

/// Refuses ranks that MPI connects, which moves host memory, on a device that
/// shares none with the host. Errors  DeviceUnsupported.
absl::Status checkDevice(const Fabric& fabric, const Device& device);

} // namespace llmrt
