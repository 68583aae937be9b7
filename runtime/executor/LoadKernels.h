// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the kernels of a plan, on its device.
#pragma once

#include "runtime/device/Device.h"
#include "runtime/plan/PlanFile.h"

#include "absl/status/statusor.h"

#include <vector>

namespace llmrt {

/// Loads the best code object that the device runs and returns the kernels by
/// their number in the plan.
/// Errors  CpuTooOld, DeviceUnsupported, CodeNotLoadable, KernelMissing.
absl::StatusOr<std::vector<KernelId>> loadKernels(const fb::Plan& plan,
                                                  Device& device);

} // namespace llmrt
