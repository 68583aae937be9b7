// SPDX-License-Identifier: Apache-2.0
// What the machine can do at most, measured by the threads that run the
// kernels: bytes read per second, multiply-adds per second. For the benchmark
// program only.
#pragma once

#include "runtime/device/cpu/ThreadPool.h"

namespace llmrt::bench {

/// Returns `bytes` of zeroed memory in huge pages where the system gives them;
/// kept until the process ends.
char* hugeMemory(int64_t bytes);

double nowSeconds();

/// Returns the bytes per second of one read of the memory by all threads of the
/// pool; `variant` in [0, kReadVariants) chooses how (streams and prefetch).
inline constexpr int kReadVariants = 4;
double readRate(ThreadPool& pool, const char* memory, int64_t bytes,
                int variant);

/// Returns floating-point operations per second of independent multiply-adds in
/// registers, by all threads (two for each multiply-add of a lane).
double multiplyAddRate(ThreadPool& pool);

} // namespace llmrt::bench
