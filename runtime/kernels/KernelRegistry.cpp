// SPDX-License-Identifier: Apache-2.0
// The hand-tuned kernels by name and version: Kernels.def, expanded.
#include "runtime/kernels/KernelRegistry.h"

#include "runtime/kernels/ScratchFormulas.h"

#include <cstdlib>
#include <vector>

namespace llmrt {

#define LLMRT_KERNEL(name, version, rowTile, colTile, words)                   \
  namespace baseline {                                                         \
  void name(const uint64_t*, const LlmrtTile*, void*);                         \
  }                                                                            \
  namespace avx2 {                                                             \
  void name(const uint64_t*, const LlmrtTile*, void*);                         \
  }                                                                            \
  namespace avx512 {                                                           \
  void name(const uint64_t*, const LlmrtTile*, void*);                         \
  }
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL

namespace {

// Splits "rows:i x:p" into words.
std::vector<KernelArg> parseWords(std::string_view words) {
  std::vector<KernelArg> args;
  while (!words.empty()) {
    size_t end = words.find(' ');
    std::string_view word = words.substr(0, end);
    size_t colon = word.find(':');
    args.push_back(
        {word.substr(0, colon), static_cast<KernelArgType>(word[colon + 1])});
    words = end == words.npos ? std::string_view() : words.substr(end + 1);
  }
  return args;
}

KernelInfo makeKernel(std::string_view name, int64_t version, int64_t rowTile,
                      int64_t colTile, absl::Span<const KernelArg> args,
                      LlmrtKernelFn baselineFn, LlmrtKernelFn avx2Fn,
                      LlmrtKernelFn avx512Fn) {
  return {name,
          version,
          rowTile,
          colTile,
          args,
          {baselineFn, avx2Fn, avx512Fn},
          scratchFormulaOf(name)};
}

CpuLevel machineLevel() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4"))
    return CpuLevel::Avx512;
  if (__builtin_cpu_supports("x86-64-v3"))
    return CpuLevel::Avx2;
  return CpuLevel::Baseline;
}

} // namespace

absl::Span<const KernelInfo> allKernels() {
  // Never destroyed: kernels may run while static objects are torn down.
  static const auto* words = new std::vector<std::vector<KernelArg>>{
#define LLMRT_KERNEL(name, version, rowTile, colTile, words) parseWords(words),
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
  };
  static const auto* kernels = [] {
    auto* all = new std::vector<KernelInfo>;
#define LLMRT_KERNEL(name, version, rowTile, colTile, ignored)                 \
  all->push_back(makeKernel(#name, version, rowTile, colTile,                  \
                            (*words)[all->size()], baseline::name, avx2::name, \
                            avx512::name));
#include "runtime/kernels/Kernels.def"
#undef LLMRT_KERNEL
    return all;
  }();
  return *kernels;
}

const KernelInfo* findKernel(std::string_view name, int64_t version) {
  for (const KernelInfo& kernel : allKernels())
    if (kernel.name == name && kernel.version == version)
      return &kernel;
  return nullptr;
}

CpuLevel detectCpuLevel() {
  CpuLevel level = machineLevel();
  const char* wanted = std::getenv("LLMRT_CPU_LEVEL");
  if (!wanted)
    return level;
  for (CpuLevel lower : {CpuLevel::Baseline, CpuLevel::Avx2})
    if (cpuLevelName(lower) == wanted && lower < level)
      return lower;
  return level;
}

std::string_view cpuLevelName(CpuLevel level) {
  switch (level) {
  case CpuLevel::Baseline:
    return "baseline";
  case CpuLevel::Avx2:
    return "avx2";
  case CpuLevel::Avx512:
    return "avx512";
  }
  return "baseline";
}

} // namespace llmrt
