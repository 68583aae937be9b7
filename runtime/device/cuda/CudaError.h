// SPDX-License-Identifier: Apache-2.0
// Private to the cuda device: the one place where results of the CUDA runtime
// library become statuses.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include <cuda_runtime_api.h>

namespace llmrt {

/// Returns ok for cudaSuccess, else what failed while doing `doing` ("copying
/// 12 bytes"). Errors  OutOfMemory, DeviceUnsupported, CodeNotLoadable,
/// KernelMissing, DeviceFailed.
absl::Status cudaStatus(cudaError_t result, absl::string_view doing);

/// Returns the error of a machine that cannot run cuda plans: what they need,
/// and `there`, what was found.
absl::Status cudaUnsupported(absl::string_view there);

} // namespace llmrt
