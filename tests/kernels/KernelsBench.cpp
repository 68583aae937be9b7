// SPDX-License-Identifier: Apache-2.0
// Speed of the hand-tuned kernels as ratios to what the same threads can do at
// most and to oneDNN and OpenBLAS where CMake found them, all measured in turns
// in one run, best of each. LLMRT_BENCH_THREADS (default 2) and LLMRT_CPU_LEVEL
// choose threads and code.
//
//   read_ratio  bytes of weights per second / the best read rate
//   peak_ratio  operations per second / the multiply-add rate in registers
//   dnnl_ratio, openblas_ratio   their time / ours, on the same shape in f32
#include "tests/kernels/BenchRun.h"

namespace llmrt::bench {
namespace {

// Few rows: one pass over 1 GiB of weights of one shape, as decoding does.
void BM_Gemv(benchmark::State& state) {
  const int64_t N = state.range(0), K = state.range(1), rows = state.range(2);
  const DType dtype = state.range(3) ? DType::BF16 : DType::F32;
  std::vector<float> x(rows * K, 0.01f), y(rows * N);
  const int64_t each = panelBytes(dtype, N, K);
  const int64_t count = kMemoryBytes / each;
  const int64_t cols = (N + 63) / 64 * 64;
  std::vector<Contestant> all;
  all.push_back({[&] {
    for (int64_t i = 0; i < count; ++i) {
      LinearArgs args = linearArgs(x.data(), y.data(), weights() + i * each,
                                   rows, N, K, dtype);
      runOnPool("linear", reinterpret_cast<uint64_t*>(&args), rows, cols);
    }
  }});
  for (int v = 0; v < kReadVariants; ++v)
    all.push_back({[v] { readRate(pool(), weights(), kMemoryBytes, v); }});
  takeTurns(state, all);
  double ceiling = 0;
  for (int v = 0; v < kReadVariants; ++v)
    ceiling = std::max(ceiling, kMemoryBytes / all[1 + v].bestSeconds);
  double rate = count * each / all[0].bestSeconds;
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["read_GB/s"] = ceiling * 1e-9;
  state.counters["read_ratio"] = rate / ceiling;
}

// Many rows: one product.
void BM_Gemm(benchmark::State& state) {
  const int64_t M = state.range(0), N = state.range(1), K = state.range(2);
  const DType dtype = state.range(3) ? DType::BF16 : DType::F32;
  std::vector<float> x(M * K, 0.01f), y(M * N), w(N * K, 0.02f);
  char* panels = weights();
  packPanels({w.data(), DType::F32, K, N, K, panels, dtype, 0,
              (N + panelCols(dtype) - 1) / panelCols(dtype)});
  LinearArgs args = linearArgs(x.data(), y.data(), panels, M, N, K, dtype);
  std::vector<Contestant> all;
  all.push_back(
      {[&] { runOnPool("linear", reinterpret_cast<uint64_t*>(&args), M, N); }});
  all.push_back({[] { multiplyAddRate(pool()); }});
#ifdef LLMRT_BENCH_DNNL
  all.push_back({dnnlProduct(M, N, K, x, w, y)});
#endif
#ifdef LLMRT_BENCH_OPENBLAS
  all.push_back({[&] {
    openblas_set_num_threads(numThreads());
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, 1.0f,
                x.data(), K, w.data(), K, 0.0f, y.data(), N);
  }});
#endif
  double peak = 0;
  for (auto& c : all)
    c.work();
  takeTurns(state, all);
  for (int i = 0; i < 3; ++i)
    peak = std::max(peak, multiplyAddRate(pool()));
  double rate = 2.0 * M * N * K / all[0].bestSeconds;
  state.counters["GFLOP/s"] = rate * 1e-9;
  state.counters["peak_ratio"] = rate / peak;
  size_t next = 2;
#ifdef LLMRT_BENCH_DNNL
  state.counters["dnnl_ratio"] = all[next++].bestSeconds / all[0].bestSeconds;
#endif
#ifdef LLMRT_BENCH_OPENBLAS
  state.counters["openblas_ratio"] =
      all[next++].bestSeconds / all[0].bestSeconds;
#endif
}

// One layer's attention: rows at the end of a context.
void BM_Attention(benchmark::State& state) {
  const int64_t rows = state.range(0), context = state.range(1);
  const int64_t H = 32, KV = 4, D = 64;
  const DType dtype = state.range(2) ? DType::BF16 : DType::F32;
  const int64_t pages = context / kPageTokens;
  std::vector<float> q(rows * H * D, 0.1f), out(q.size());
  std::vector<int32_t> positions(rows), blockTable(pages);
  for (int64_t i = 0; i < rows; ++i)
    positions[i] = static_cast<int32_t>(context - rows + i);
  for (int64_t i = 0; i < pages; ++i)
    blockTable[i] = static_cast<int32_t>(i);
  const int64_t cacheBytes = pages * KV * D * kPageTokens * dtypeBytes(dtype);
  AttentionArgs a = {};
  a.rows = rows;
  a.q = q.data();
  a.keyCache = weights();
  a.valueCache = weights() + cacheBytes;
  a.positions = positions.data();
  a.blockTable = blockTable.data();
  a.out = out.data();
  a.R = rows;
  a.H = H;
  a.KV = KV;
  a.D = D;
  a.group = H / KV;
  a.pages = pages;
  a.dtype = static_cast<int64_t>(dtype);
  a.scale = 0.125;
  a.ldq = a.ldo = H * D;
  std::vector<Contestant> all;
  all.push_back({[&] {
    runOnPool("attention", reinterpret_cast<uint64_t*>(&a), rows, H);
  }});
  takeTurns(state, all);
  double peak = 0;
  for (int i = 0; i < 3; ++i)
    peak = std::max(peak, multiplyAddRate(pool()));
  double seen = 0;
  for (int32_t p : positions)
    seen += p + 1;
  state.counters["GB/s"] = 2 * cacheBytes / all[0].bestSeconds * 1e-9;
  state.counters["peak_ratio"] = 4.0 * seen * H * D / all[0].bestSeconds / peak;
}

void BM_ForkJoin(benchmark::State& state) {
  uint64_t words[1] = {1};
  auto nothing = [](const uint64_t*, const LlmrtTile*, void*) {};
  for (auto _ : state)
    pool().run({1, state.range(0), 1, 1}, nothing, words, 0);
}

void BM_PackPanels(benchmark::State& state) {
  const int64_t N = 5632, K = 2048;
  const DType from = state.range(0) ? DType::BF16 : DType::F32;
  const DType to = state.range(1) ? DType::BF16 : DType::F32;
  char* out = weights() + kMemoryBytes / 2;
  for (auto _ : state)
    packPanels({weights(), from, K, N, K, out, to, 0, N / panelCols(to)});
  state.SetBytesProcessed(state.iterations() * N * K *
                          (dtypeBytes(from) + dtypeBytes(to)));
}

void gemvShapes(benchmark::internal::Benchmark* b) {
  for (int64_t bf16 : {0, 1})
    for (int64_t rows : {1, 2, 4, 8, 16})
      b->Args({5632, 2048, rows, bf16});
  for (int64_t bf16 : {0, 1}) {
    b->Args({2048, 5632, 1, bf16});
    b->Args({2560, 2048, 1, bf16});
    b->Args({768, 768, 1, bf16});
    b->Args({2048, 768, 1, bf16});
    b->Args({4095, 1023, 1, bf16});
  }
}

void gemmShapes(benchmark::internal::Benchmark* b) {
  for (int64_t bf16 : {0, 1}) {
    b->Args({512, 5632, 2048, bf16});
    b->Args({512, 2048, 5632, bf16});
    b->Args({512, 2048, 2048, bf16});
    b->Args({512, 768, 768, bf16});
    b->Args({512, 2048, 768, bf16});
    b->Args({64, 5632, 2048, bf16});
  }
}

BENCHMARK(BM_ForkJoin)->Arg(2)->Arg(64)->UseRealTime();
BENCHMARK(BM_PackPanels)->ArgsProduct({{0, 1}, {0, 1}})->UseRealTime();
BENCHMARK(BM_Gemv)
    ->Apply(gemvShapes)
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Gemm)
    ->Apply(gemmShapes)
    ->UseManualTime()
    ->Iterations(8)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Attention)
    ->ArgsProduct({{1, 512}, {512, 2048}, {0, 1}})
    ->UseManualTime()
    ->Iterations(20)
    ->Unit(benchmark::kMicrosecond);

} // namespace
} // namespace llmrt::bench

BENCHMARK_MAIN();
