// SPDX-License-Identifier: Apache-2.0
// Runs tests whose buffers are the host's over a back-end whose calls are on
// streams of a real GPU.
#pragma once

#include "runtime/comm/Communicator.h"

#include <functional>

namespace llmrt::testing {

/// Runs `body` over `fabric`: the buffers of each call go to memory of the GPU,
/// the call on a CUDA stream of this thread, and the results back behind it.
void runOnGpuStream(Fabric& fabric, const std::function<void(Fabric&)>& body);

} // namespace llmrt::testing
