// SPDX-License-Identifier: Apache-2.0
// What the kernel tests share: poisoned buffers between guards, the CPU levels
// of this machine, and running a kernel over any cut of its grid.
#pragma once

#include "runtime/device/cpu/ThreadPool.h"
#include "runtime/kernels/KernelRegistry.h"
#include "runtime/kernels/TrainingKernelArgs.h"
#include "tests/support/RunSeed.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace llmrt::testing {

inline float fromBf16(uint16_t x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
}

/// Rounds to nearest even by trying both neighbours: not the kernels' way.
inline uint16_t toBf16(float x) {
  uint16_t down = static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16);
  double low = fromBf16(down);
  double high = fromBf16(static_cast<uint16_t>(down + 1));
  double toLow = std::abs(x - low), toHigh = std::abs(high - x);
  if (toLow != toHigh)
    return toLow < toHigh ? down : static_cast<uint16_t>(down + 1);
  return down % 2 == 0 ? down : static_cast<uint16_t>(down + 1);
}

/// Elements between guards. Floats begin as NaN, so that what is read unwritten
/// shows.
template <typename T>
class Guarded {
public:
  explicit Guarded(int64_t count) : all_(count + 2 * kGuard) {
    std::memset(all_.data(), kPattern, all_.size() * sizeof(T));
    for (int64_t i = 0; i < count; ++i)
      data()[i] = poison();
  }

  explicit Guarded(const std::vector<T>& values) : Guarded(values.size()) {
    std::copy(values.begin(), values.end(), data());
  }

  T* data() { return all_.data() + kGuard; }

  int64_t count() const { return all_.size() - 2 * kGuard; }

  T& operator[](int64_t i) { return data()[i]; }

  std::vector<T> values() { return {data(), data() + count()}; }

  bool guardsHold() const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(all_.data());
    int64_t guard = kGuard * sizeof(T), total = all_.size() * sizeof(T);
    for (int64_t i = 0; i < guard; ++i)
      if (bytes[i] != kPattern || bytes[total - 1 - i] != kPattern)
        return false;
    return true;
  }

  static T poison() {
    if constexpr (std::is_floating_point_v<T>)
      return std::numeric_limits<T>::quiet_NaN();
    return static_cast<T>(-1); // as bf16: a NaN
  }

private:
  static constexpr int64_t kGuard = 64;
  static constexpr unsigned char kPattern = 0xA5;
  std::vector<T> all_;
};

/// True if both hold the same bits (NaN equals the same NaN).
template <typename T>
bool sameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

inline std::vector<CpuLevel> levels() {
  std::vector<CpuLevel> all;
  for (CpuLevel level : {CpuLevel::Baseline, CpuLevel::Avx2, CpuLevel::Avx512})
    if (level <= detectCpuLevel())
      all.push_back(level);
  return all;
}

inline std::vector<float> randomFloats(int64_t count, int seed,
                                       float scale = 1.0f) {
  std::mt19937 bits(seed + runSeed());
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& v : values)
    v = normal(bits);
  return values;
}

/// fma as the level defines it: see Simd.h.
inline float levelFma(CpuLevel level, float a, float b, float c) {
  return level == CpuLevel::Baseline ? a * b + c : std::fma(a, b, c);
}

/// How a test cuts a grid: threads, or one thread with rectangles of its own
/// size.
struct Cut {
  int threads = 1;
  int64_t rows = 0; // 0: the kernel's own grid
  int64_t cols = 0;
};

/// Returns the newest version of a kernel.
inline const KernelInfo* newestKernel(std::string_view name) {
  const KernelInfo* newest = nullptr;
  for (const KernelInfo& kernel : allKernels())
    if (kernel.name == name && (!newest || kernel.version > newest->version))
      newest = &kernel;
  return newest;
}

template <typename Args>
void runKernel(std::string_view name, CpuLevel level, const Args& args,
               int64_t rows, int64_t cols, Cut cut = {}) {
  const KernelInfo* kernel = newestKernel(name);
  ASSERT_NE(kernel, nullptr) << name;
  ASSERT_EQ(kernel->args.size() * 8, sizeof(Args)) << name;
  auto* words = reinterpret_cast<const uint64_t*>(&args);
  ThreadPool pool({.numThreads = cut.threads});
  TileGrid grid{rows, cols, cut.rows ? cut.rows : kernel->rowTile,
                cut.cols ? cut.cols : kernel->colTile};
  if (cut.rows == 0 && cut.cols == 0) {
    pool.run(grid, kernel->function(level), words, kernel->scratchBytes(words));
    return;
  }
  // One call for each rectangle, last first, with scratch that guards its end.
  Guarded<uint64_t> scratch(kernel->scratchBytes(words) / 8 + 8);
  auto address = reinterpret_cast<uintptr_t>(scratch.data());
  auto* aligned = reinterpret_cast<void*>((address + 63) / 64 * 64);
  for (int64_t r = (rows - 1) / grid.rowTile; r >= 0; --r)
    for (int64_t c = (cols - 1) / grid.colTile; c >= 0; --c) {
      LlmrtTile tile{r * grid.rowTile, std::min(rows, (r + 1) * grid.rowTile),
                     c * grid.colTile, std::min(cols, (c + 1) * grid.colTile)};
      kernel->function(level)(words, &tile, aligned);
    }
  EXPECT_TRUE(scratch.guardsHold()) << name;
}

} // namespace llmrt::testing
