// SPDX-License-Identifier: Apache-2.0
// The hand-tuned kernels by name and version, each with its argument words, its
// code for every CPU level and its scratch formula. Built from Kernels.def;
// runs nothing.
#pragma once

#include "runtime/kernels/KernelAbi.h"

#include "absl/types/span.h"

#include <string_view>

namespace llmrt {

enum class KernelArgType : char { Address = 'p', Int = 'i', Double = 'f' };

/// One word of an argument block.
struct KernelArg {
  std::string_view name;
  KernelArgType type;
};

inline constexpr int kNumCpuLevels = 3;

struct KernelInfo {
  std::string_view name;
  int64_t version;
  int64_t rowTile; // 0: the whole extent
  int64_t colTile;
  absl::Span<const KernelArg> args;
  LlmrtKernelFn functions[kNumCpuLevels]; // by CpuLevel
  int64_t (*scratchFormula)(const uint64_t* args);

  LlmrtKernelFn function(CpuLevel level) const {
    return functions[static_cast<int>(level)];
  }

  /// Returns the scratch bytes of one call with these arguments, by one thread.
  int64_t scratchBytes(const uint64_t* args) const {
    return scratchFormula(args);
  }
};

/// Returns the kernel, or null if there is none of that name at that version.
const KernelInfo* findKernel(std::string_view name, int64_t version);

/// Returns every kernel, in the order of Kernels.def.
absl::Span<const KernelInfo> allKernels();

/// Returns the best level that this machine runs.
/// LLMRT_CPU_LEVEL=baseline|avx2|avx512 in the environment lowers it; it never
/// raises it, and other values change nothing (llmrt refuses them).
CpuLevel detectCpuLevel();

/// Returns "baseline", "avx2" or "avx512".
std::string_view cpuLevelName(CpuLevel level);

} // namespace llmrt
