// SPDX-License-Identifier: Apache-2.0
// What the parts of the benchmark program share: threads, memory, contestants
// that take turns, and the products of other libraries.
#pragma once

#include "tests/kernels/Ceilings.h"

#include "runtime/kernels/KernelRegistry.h"
#include "runtime/kernels/Pack.h"
#include "runtime/kernels/TrainingKernelArgs.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#ifdef LLMRT_BENCH_DNNL
#include <dnnl.hpp>
#endif
#ifdef LLMRT_BENCH_OPENBLAS
#include <cblas.h>
#endif

namespace llmrt::bench {

inline constexpr int64_t kMemoryBytes = int64_t{1} << 30;

inline int numThreads() {
  const char* text = std::getenv("LLMRT_BENCH_THREADS");
  return text ? std::max(1, std::atoi(text)) : 2;
}

inline ThreadPool& pool() {
  static auto* pool = new ThreadPool({.numThreads = numThreads()});
  return *pool;
}

/// 1 GiB of weights, shared by all benchmarks: small positive numbers in both
/// formats.
inline char* weights() {
  static char* memory = [] {
    char* bytes = hugeMemory(kMemoryBytes);
    auto* words = reinterpret_cast<uint32_t*>(bytes);
    for (int64_t i = 0; i < kMemoryBytes / 4; ++i)
      words[i] = 0x3C003C00 + static_cast<uint32_t>(i * 2654435761u >> 16);
    return bytes;
  }();
  return memory;
}

/// The best of what `work` needs over the rounds, in turns with the other
/// contestants.
struct Contestant {
  std::function<void()> work;
  double bestSeconds = 1e30;
};

inline void takeTurns(benchmark::State& state,
                      std::vector<Contestant>& contestants) {
  for (auto _ : state) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      // Other libraries' threads spin for a while after their work.
      std::this_thread::sleep_for(std::chrono::milliseconds(4));
      double begin = nowSeconds();
      contestants[i].work();
      double seconds = nowSeconds() - begin;
      contestants[i].bestSeconds =
          std::min(contestants[i].bestSeconds, seconds);
      if (i == 0)
        state.SetIterationTime(seconds);
    }
  }
}

inline void runOnPool(const char* name, const uint64_t* words, int64_t rows,
                      int64_t cols) {
  const KernelInfo* kernel = findKernel(name, 1);
  static const CpuLevel level = detectCpuLevel();
  pool().run({rows, cols, kernel->rowTile, kernel->colTile},
             kernel->function(level), words, kernel->scratchBytes(words));
}

inline LinearArgs linearArgs(const float* x, float* y, const void* w,
                             int64_t rows, int64_t N, int64_t K, DType dtype) {
  LinearArgs args = {};
  args.rows = rows;
  args.x = x;
  args.ldx = K;
  args.K = K;
  args.dtype = static_cast<int64_t>(dtype);
  args.layout = static_cast<int64_t>(WeightLayout::Panel);
  args.count = 1;
  args.weights[0] = {w, y, N, N, nullptr, nullptr};
  return args;
}

#ifdef LLMRT_BENCH_DNNL
inline std::function<void()> dnnlProduct(int64_t M, int64_t N, int64_t K,
                                         std::vector<float>& x,
                                         std::vector<float>& w,
                                         std::vector<float>& y) {
  using namespace dnnl;
  using Tag = memory::format_tag;
  constexpr auto f32 = memory::data_type::f32;
  static engine cpu(engine::kind::cpu, 0);
  static stream order(cpu);
  memory::desc xDesc({M, K}, f32, Tag::ab), yDesc({M, N}, f32, Tag::ab);
  memory::desc wAny({K, N}, f32, Tag::any), wRows({K, N}, f32, Tag::ba);
  matmul::primitive_desc desc(matmul::desc(xDesc, wAny, yDesc), cpu);
  memory rows(wRows, cpu, w.data()), packed(desc.weights_desc(), cpu);
  reorder(rows, packed).execute(order, rows, packed);
  order.wait();
  matmul product(desc);
  memory xMemory(xDesc, cpu, x.data()), yMemory(yDesc, cpu, y.data());
  return [=]() mutable {
    product.execute(order, {{DNNL_ARG_SRC, xMemory},
                            {DNNL_ARG_WEIGHTS, packed},
                            {DNNL_ARG_DST, yMemory}});
    order.wait();
  };
}
#endif

} // namespace llmrt::bench
