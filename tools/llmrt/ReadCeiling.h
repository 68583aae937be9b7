// SPDX-License-Identifier: Apache-2.0
// How fast this machine reads memory: the ceiling of decoding, measured in the
// same run.
#pragma once

#include <cstdint>

namespace llmrt {

/// Returns the bytes per second of the best of five reads of 1 GiB in huge
/// pages (where the system gives them) by `numThreads` threads, on any CPU of
/// the machine.
double measureReadCeiling(int numThreads);

} // namespace llmrt
