// SPDX-License-Identifier: Apache-2.0
// Private to the cuda device: which code object of a plan suits a GPU. Needs no
// CUDA.
#pragma once

#include "runtime/device/Device.h"

namespace llmrt {

/// Returns the number of the code object to load on a GPU of architecture
/// `level` (90 for sm_90): the highest cubin of the same generation that is not
/// newer, else the highest PTX that is not newer. Errors  DeviceUnsupported
/// with what there is.
absl::StatusOr<int> chooseCudaCode(absl::Span<const CodeOption> options,
                                   int level);

} // namespace llmrt
