// SPDX-License-Identifier: Apache-2.0
// How fast this machine reads and copies memory: the ceilings of decoding and
// of loading weights, measured in the same run.
#pragma once

#include <cstdint>

namespace llmrt {

/// Returns the bytes per second of the best of five reads of 1 GiB in huge
/// pages (where the system gives them) by `numThreads` threads, on any CPU of
/// the machine.
double measureReadCeiling(int numThreads);

/// Returns the seconds of the best of five copies of `sizeBytes` into memory
/// that was never touched, as weights are loaded, by `numThreads` threads.
/// Above 1 GiB, 1 GiB is copied and the time scaled. 0 if memory is short.
double measureCopySeconds(int64_t sizeBytes, int numThreads);

} // namespace llmrt
