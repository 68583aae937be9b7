// SPDX-License-Identifier: Apache-2.0
// Speed of the kernels of the training step, in turns with `linear` at the same
// shape and with the products of oneDNN and OpenBLAS in f32.
//
//   linear_ratio  time of `linear` for as many operations / ours
//   dnnl_ratio, openblas_ratio   their time for the same product / ours
#include "tests/kernels/BenchRun.h"

namespace llmrt::bench {
namespace {

void report(benchmark::State& state, const std::vector<Contestant>& all,
            const std::vector<const char*>& names, double operations) {
  state.counters["GFLOP/s"] = operations / all[0].bestSeconds * 1e-9;
  for (size_t i = 0; i < names.size(); ++i)
    state.counters[names[i]] = all[1 + i].bestSeconds / all[0].bestSeconds;
}

#ifdef LLMRT_BENCH_DNNL
/// y [M, N] = a * b; `aTurned`: a lies as [K, M], `bTurned`: b as [N, K].
std::function<void()> dnnlTurned(int64_t M, int64_t N, int64_t K, bool aTurned,
                                 bool bTurned, float* a, float* b, float* y) {
  using namespace dnnl;
  using Tag = memory::format_tag;
  constexpr auto f32 = memory::data_type::f32;
  static engine cpu(engine::kind::cpu, 0);
  static stream order(cpu);
  memory::desc aDesc({M, K}, f32, aTurned ? Tag::ba : Tag::ab);
  memory::desc bDesc({K, N}, f32, bTurned ? Tag::ba : Tag::ab);
  memory::desc yDesc({M, N}, f32, Tag::ab);
  matmul product(
      matmul::primitive_desc(matmul::desc(aDesc, bDesc, yDesc), cpu));
  memory aMemory(aDesc, cpu, a), bMemory(bDesc, cpu, b), yMemory(yDesc, cpu, y);
  return [=]() mutable {
    product.execute(order, {{DNNL_ARG_SRC, aMemory},
                            {DNNL_ARG_WEIGHTS, bMemory},
                            {DNNL_ARG_DST, yMemory}});
    order.wait();
  };
}
#endif

/// A product of a layer and its two gradients: x [M, K], w [N, K], dy [M, N].
struct Layer {
  int64_t M, N, K;
  std::vector<float> x, dy, w, out;

  Layer(int64_t M, int64_t N, int64_t K)
      : M(M), N(N), K(K), x(M * K, 0.01f), dy(M * N, 0.02f), w(N * K, 0.03f),
        out(std::max({M * N, M * K, N * K})) {}

  LinearArgs linear(DType dtype) {
    packPanels({w.data(), DType::F32, K, N, K, weights(), dtype, 0,
                (N + panelCols(dtype) - 1) / panelCols(dtype)});
    return linearArgs(x.data(), out.data(), weights(), M, N, K, dtype);
  }
};

// dx = dy * W
void BM_InputGradient(benchmark::State& state) {
  Layer l(state.range(0), state.range(1), state.range(2));
  const DType dtype = state.range(3) ? DType::BF16 : DType::F32;
  LinearArgs forward = l.linear(dtype);
  LinearInputGradientArgs a = {
      l.M, l.dy.data(),  l.N, l.N, weights(), static_cast<int64_t>(dtype),
      1,   l.out.data(), l.K, l.K};
  std::vector<Contestant> all;
  std::vector<const char*> names = {"linear_ratio"};
  all.push_back({[&] {
    runOnPool("linear_input_gradient", reinterpret_cast<uint64_t*>(&a), l.M,
              l.K);
  }});
  all.push_back({[&] {
    runOnPool("linear", reinterpret_cast<uint64_t*>(&forward), l.M, l.N);
  }});
#ifdef LLMRT_BENCH_DNNL
  names.push_back("dnnl_ratio");
  all.push_back({dnnlTurned(l.M, l.K, l.N, false, false, l.dy.data(),
                            l.w.data(), l.out.data())});
#endif
#ifdef LLMRT_BENCH_OPENBLAS
  names.push_back("openblas_ratio");
  all.push_back({[&] {
    openblas_set_num_threads(numThreads());
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, l.M, l.K, l.N, 1.0f,
                l.dy.data(), l.N, l.w.data(), l.K, 0.0f, l.out.data(), l.K);
  }});
#endif
  takeTurns(state, all);
  report(state, all, names, 2.0 * l.M * l.N * l.K);
}

// dW = dy^T * x
void BM_WeightGradient(benchmark::State& state) {
  Layer l(state.range(0), state.range(1), state.range(2));
  LinearArgs forward = l.linear(DType::F32);
  LinearWeightGradientArgs a = {
      l.N,          l.dy.data(),    l.N, l.x.data(), l.K, l.M, l.N, l.K,
      l.out.data(), state.range(3), 0,   l.N,        l.K};
  std::vector<Contestant> all;
  std::vector<const char*> names = {"linear_ratio"};
  all.push_back({[&] {
    runOnPool("linear_weight_gradient", reinterpret_cast<uint64_t*>(&a), l.N,
              l.K);
  }});
  all.push_back({[&] {
    runOnPool("linear", reinterpret_cast<uint64_t*>(&forward), l.M, l.N);
  }});
#ifdef LLMRT_BENCH_DNNL
  names.push_back("dnnl_ratio");
  all.push_back({dnnlTurned(l.N, l.K, l.M, true, false, l.dy.data(), l.x.data(),
                            l.out.data())});
#endif
#ifdef LLMRT_BENCH_OPENBLAS
  names.push_back("openblas_ratio");
  all.push_back({[&] {
    openblas_set_num_threads(numThreads());
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, l.N, l.K, l.M, 1.0f,
                l.dy.data(), l.N, l.x.data(), l.K, 0.0f, l.out.data(), l.K);
  }});
#endif
  takeTurns(state, all);
  report(state, all, names, 2.0 * l.M * l.N * l.K);
}

void layerShapes(benchmark::internal::Benchmark* b) {
  for (int64_t last : {0, 1}) {
    b->Args({2048, 768, 768, last});
    b->Args({2048, 2048, 768, last});
    b->Args({2048, 768, 3072, last});
    b->Args({2048, 576, 1536, last});
  }
}

BENCHMARK(BM_InputGradient)
    ->Apply(layerShapes)
    ->UseManualTime()
    ->Iterations(8)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_WeightGradient)
    ->Apply(layerShapes)
    ->UseManualTime()
    ->Iterations(8)
    ->Unit(benchmark::kMillisecond);

} // namespace
} // namespace llmrt::bench
