// SPDX-License-Identifier: Apache-2.0
// The kernels of communication, apart from the C++ of the project because nvcc
// compiles them. Each enqueues on a cudaStream_t of the current device and
// returns a cudaError_t. Private to runtime/comm/cuda.
#pragma once

#include "runtime/comm/cuda/PeerSum.h"

#include <cstdint>

namespace llmrt {

/// As CudaTable::mark.
int launchMark(void* stream, uint64_t* word, uint32_t* count, uint32_t number);

/// As CudaTable::addInRankOrder.
int launchAddInRankOrder(void* stream, void* out, const void* const* blocks,
                         int numBlocks, int64_t numElements, bool isBf16);

/// As CudaTable::sumOverPeers.
int launchSumOverPeers(void* stream, const PeerSumCall& call);

} // namespace llmrt
