// SPDX-License-Identifier: Apache-2.0
// The one kernel of this folder, apart from the C++ of the project because nvcc
// compiles it. Private to runtime/comm/nccl.
#pragma once

#include <cstdint>

namespace llmrt {

/// CudaTable::mark on a cudaStream_t of the current device; returns a
/// cudaError_t.
int launchMark(void* stream, uint64_t* word, uint32_t* count, uint32_t number);

} // namespace llmrt
