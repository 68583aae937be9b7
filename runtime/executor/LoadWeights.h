// SPDX-License-Identifier: Apache-2.0
// Private to the executor: fills the parameter buffers of this rank. Reads only
// the bytes of its own part of each parameter.
#pragma once

#include "runtime/executor/Executor.h"
#include "runtime/executor/Rank.h"

namespace llmrt {

/// Loads every parameter of the rank's stage, and the f32 masters of those in
/// bf16, with `options.numThreads` threads.
/// Errors  WeightSetMissing, WeightShapeMismatch, WeightNotInitialised,
///         WeightSeedInvalid, and those of WeightSource; each names its tensor.
absl::Status loadWeights(const Rank& rank, const ExecutorOptions& options);

} // namespace llmrt
