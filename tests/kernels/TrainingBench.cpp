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

/// f32 memory in huge pages, as a plan's buffers are; the second half of
/// weights() from the front.
class Floats {
public:
  Floats(int64_t count, float value) : data_(next()), count_(count) {
    next() += (count + 63) / 64 * 64;
    std::fill(data_, data_ + count, value);
  }

  explicit Floats(int64_t count) : Floats(count, 0.0f) {}

  float* data() const { return data_; }

  int64_t size() const { return count_; }

  float& operator[](int64_t i) { return data_[i]; }

  /// Gives all of it back; at the beginning of a benchmark.
  static void release() {
    next() = reinterpret_cast<float*>(weights() + kMemoryBytes / 2);
  }

private:
  static float*& next() {
    static float* pointer = nullptr;
    return pointer;
  }

  float* data_;
  int64_t count_;
};

#ifdef LLMRT_BENCH_DNNL
/// `batch` times y [M, N] = a * b, one behind another; `aTurned`: a lies as
/// [K, M], `bTurned`: b as [N, K].
std::function<void()> dnnlTurned(int64_t M, int64_t N, int64_t K, bool aTurned,
                                 bool bTurned, float* a, float* b, float* y,
                                 int64_t batch = 1) {
  using namespace dnnl;
  using Tag = memory::format_tag;
  constexpr auto f32 = memory::data_type::f32;
  static engine cpu(engine::kind::cpu, 0);
  static stream order(cpu);
  memory::desc aDesc({batch, M, K}, f32, aTurned ? Tag::acb : Tag::abc);
  memory::desc bDesc({batch, K, N}, f32, bTurned ? Tag::acb : Tag::abc);
  memory::desc yDesc({batch, M, N}, f32, Tag::abc);
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
  Floats x, dy, w, out;

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
  Floats::release();
  Layer l(state.range(0), state.range(1), state.range(2));
  const DType dtype = state.range(3) ? DType::BF16 : DType::F32;
  LinearArgs forward = l.linear(dtype);
  LinearInputGradientArgs a = {
      l.M, l.dy.data(),  l.N, l.N, weights(), static_cast<int64_t>(dtype),
      1,   l.out.data(), l.K, l.K, 0};
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
  Floats::release();
  Layer l(state.range(0), state.range(1), state.range(2));
  LinearArgs forward = l.linear(DType::F32);
  LinearWeightGradientArgs a = {
      l.N,          l.dy.data(),    l.N, l.x.data(), l.K, l.M, l.N, l.K,
      l.out.data(), state.range(3), 0,   l.N,        l.K, 0,   0};
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

#if defined(LLMRT_BENCH_DNNL) && defined(LLMRT_BENCH_OPENBLAS)
/// A layer's product and both gradients by the libraries alone, each in f32;
/// milliseconds of the better one for each of the three, added. For
/// tools/bench-training-step.py.
void BM_LibraryProducts(benchmark::State& state) {
  Floats::release();
  Layer l(state.range(0), state.range(1), state.range(2));
  openblas_set_num_threads(numThreads());
  auto blas = [&](CBLAS_TRANSPOSE a, CBLAS_TRANSPOSE b, int64_t m, int64_t n,
                  int64_t k, float* x, float* y) -> std::function<void()> {
    int64_t lda = a == CblasTrans ? m : k, ldb = b == CblasTrans ? k : n;
    float* out = l.out.data();
    return [=] {
      cblas_sgemm(CblasRowMajor, a, b, m, n, k, 1.0f, x, lda, y, ldb, 0.0f, out,
                  n);
    };
  };
  float *x = l.x.data(), *dy = l.dy.data(), *w = l.w.data();
  float* out = l.out.data();
  std::vector<Contestant> all;
  all.push_back({dnnlTurned(l.M, l.N, l.K, false, true, x, w, out)});
  all.push_back({blas(CblasNoTrans, CblasTrans, l.M, l.N, l.K, x, w)});
  all.push_back({dnnlTurned(l.M, l.K, l.N, false, false, dy, w, out)});
  all.push_back({blas(CblasNoTrans, CblasNoTrans, l.M, l.K, l.N, dy, w)});
  all.push_back({dnnlTurned(l.N, l.K, l.M, true, false, dy, x, out)});
  all.push_back({blas(CblasTrans, CblasNoTrans, l.N, l.K, l.M, dy, x)});
  takeTurns(state, all);
  double seconds = 0;
  for (size_t i = 0; i < all.size(); i += 2)
    seconds += std::min(all[i].bestSeconds, all[i + 1].bestSeconds);
  state.counters["milliseconds"] = seconds * 1e3;
}

/// The six products of attention and its gradients by the libraries alone,
/// heads one behind another, rows and width given; milliseconds of the better
/// one for each, added. All queries meet all keys: a library knows no causal
/// product.
void BM_LibraryAttentionProducts(benchmark::State& state) {
  Floats::release();
  const int64_t heads = state.range(0), R = state.range(1), D = state.range(2);
  Floats wide(heads * R * R, 0.01f), wideOut(heads * R * R);
  Floats narrow(heads * R * D, 0.02f), other(heads * R * D, 0.03f);
  Floats narrowOut(heads * R * D);
  openblas_set_num_threads(numThreads());
  std::vector<Contestant> all;
  auto add = [&](int64_t M, int64_t N, int64_t K, bool aTurned, bool bTurned,
                 float* a, float* b, float* y) {
    all.push_back({dnnlTurned(M, N, K, aTurned, bTurned, a, b, y, heads)});
    all.push_back({[=] {
      for (int64_t h = 0; h < heads; ++h)
        cblas_sgemm(CblasRowMajor, aTurned ? CblasTrans : CblasNoTrans,
                    bTurned ? CblasTrans : CblasNoTrans, M, N, K, 1.0f,
                    a + h * M * K, aTurned ? M : K, b + h * K * N,
                    bTurned ? K : N, 0.0f, y + h * M * N, N);
    }});
  };
  float *q = narrow.data(), *k = other.data(), *p = wide.data();
  add(R, R, D, false, true, q, k, wideOut.data()); // scores; dout times values
  add(R, D, R, false, false, p, k, narrowOut.data()); // out; dq
  add(R, D, R, true, false, p, q, narrowOut.data());  // dv; dk
  takeTurns(state, all);
  double seconds = 0;
  for (size_t i = 0; i < all.size(); i += 2)
    seconds += 2 * std::min(all[i].bestSeconds, all[i + 1].bestSeconds);
  state.counters["milliseconds"] = seconds * 1e3;
}

// Of the same shape: 4 sequences of 512 rows, 12 heads.
BENCHMARK(BM_LibraryAttentionProducts)
    ->Args({48, 512, 64})
    ->UseManualTime()
    ->Iterations(4)
    ->Unit(benchmark::kMillisecond);

// The layers of a 110M shape: attention, feed-forward in and out, head.
BENCHMARK(BM_LibraryProducts)
    ->Args({2048, 768, 768})
    ->Args({2048, 2048, 768})
    ->Args({2048, 768, 2048})
    ->Args({2048, 32000, 768})
    ->UseManualTime()
    ->Iterations(4)
    ->Unit(benchmark::kMillisecond);
#endif

void layerShapes(benchmark::internal::Benchmark* b) {
  for (int64_t last : {0, 1}) {
    b->Args({2048, 768, 768, last});
    b->Args({2048, 2048, 768, last});
    b->Args({2048, 768, 3072, last});
    b->Args({2048, 576, 1536, last});
  }
}

/// Causal attention of S sequences of R rows with results of attention_rows.
struct RowsProblem {
  int64_t S, R, H, KV, D;
  Floats q, k, v, out, dout, logSum, dq, dk, dv;

  RowsProblem(int64_t S, int64_t R, int64_t H, int64_t KV, int64_t D)
      : S(S), R(R), H(H), KV(KV), D(D), q(S * R * H * D), k(S * R * KV * D),
        v(k.size(), 0.5f), out(q.size()), dout(q.size(), 0.25f),
        logSum(S * R * H), dq(q.size()), dk(k.size()), dv(k.size()) {
    for (int64_t i = 0; i < q.size(); ++i)
      q[i] = static_cast<float>(i * 7919 % 1000) * 1e-3f - 0.5f;
    for (int64_t i = 0; i < k.size(); ++i)
      k[i] = static_cast<float>(i * 104729 % 1000) * 1e-3f - 0.5f;
  }

  AttentionRowsArgs forward() {
    return {
        S * R, q.data(), k.data(), v.data(), nullptr, out.data(), logSum.data(),
        R,     H,        KV,       D,        H / KV,  0,          0,
        0.125, 0.0,      0,        H * D,    KV * D,  KV * D,     H * D};
  }

  AttentionGradientArgs backward() {
    return {S,          q.data(),    k.data(),  v.data(),
            out.data(), dout.data(), nullptr,   logSum.data(),
            dq.data(),  dk.data(),   dv.data(), R,
            H,          KV,          D,         H / KV,
            0,          0,           0.125,     0.0,
            0,          H * D,       KV * D,    KV * D,
            H * D,      H * D,       H * D,     KV * D,
            KV * D};
  }

  /// Multiply-adds of one product of all queries with the keys they see.
  double pairs() const { return 0.5 * S * R * (R + 1) * H * D; }
};

// Forward and backward, in turns with a product of `linear`; ratios are those
// of operations per second.
void BM_AttentionRows(benchmark::State& state) {
  Floats::release();
  RowsProblem p(4, state.range(0), 12, 4, state.range(1));
  AttentionRowsArgs forward = p.forward();
  AttentionGradientArgs backward = p.backward();
  Layer l(2048, 768, 768);
  LinearArgs product = l.linear(DType::F32);
  std::vector<Contestant> all;
  all.push_back({[&] {
    runOnPool("attention_rows", reinterpret_cast<uint64_t*>(&forward),
              p.S * p.R, p.H);
  }});
  all.push_back({[&] {
    runOnPool("attention_gradient", reinterpret_cast<uint64_t*>(&backward), p.S,
              p.KV);
  }});
  all.push_back({[&] {
    runOnPool("linear", reinterpret_cast<uint64_t*>(&product), l.M, l.N);
  }});
  takeTurns(state, all);
  const double linear = 2.0 * l.M * l.N * l.K / all[2].bestSeconds;
  const double rate = 4 * p.pairs() / all[0].bestSeconds;
  const double rateBackward = 10 * p.pairs() / all[1].bestSeconds;
  state.counters["GFLOP/s"] = rate * 1e-9;
  state.counters["linear_ratio"] = rate / linear;
  state.counters["backward_GFLOP/s"] = rateBackward * 1e-9;
  state.counters["backward_ratio"] = rateBackward / linear;
}

BENCHMARK(BM_AttentionRows)
    ->ArgsProduct({{256, 1024}, {64, 128}})
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);
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
