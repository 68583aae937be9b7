// SPDX-License-Identifier: Apache-2.0
// fused_linear and linear_rope_append, which exist on CUDA only, against what
// they stand for: norms, activations and sums of plain loops around the cpu
// kernels `linear` and `rope_append`. Over 500 lines because both have the same
// inputs and the same loops to compare with.
#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/plan/KernelSignatures.h"
#include "tests/kernels/cuda/CudaKernelCase.h"
#include "tests/kernels/cuda/CudaPages.h"

namespace llmrt {
namespace {

using testing::Guarded;

using Floats = std::vector<float>;

// Products keep x to 2^-17 of its size where tensor cores make them, and sums
// behind them take the error of a norm's factor along.
constexpr double kBound = 2e-5;

TEST(CudaFusedProducts, haveTheWordsOfKernelsDef) {
  const KernelSignature* linear = findKernelSignature("fused_linear", 2);
  ASSERT_NE(linear, nullptr);
  EXPECT_EQ(linear->words.size() * 8, sizeof(FusedLinearArgs));
  const KernelSignature* append = findKernelSignature("linear_rope_append", 1);
  ASSERT_NE(append, nullptr);
  EXPECT_EQ(append->words.size() * 8, sizeof(LinearRopeAppendArgs));
  EXPECT_TRUE(linear->hasCudaForm && append->hasCudaForm);
  EXPECT_FALSE(linear->hasCpuForm || append->hasCpuForm);
  EXPECT_TRUE(findKernelSignature("linear", 2)->hasCpuForm);
  EXPECT_EQ(findKernel("fused_linear", 1), nullptr);
}

/// A weight in both dtypes.
struct Weight {
  Floats wide;
  std::vector<uint16_t> narrow;

  Weight(int64_t N, int64_t K, int seed)
      : wide(testing::randomFloats(N * K, seed)),
        narrow(testing::narrowed(wide)) {}

  const void* data(DType dtype) const {
    return dtype == DType::F32 ? static_cast<const void*>(wide.data())
                               : narrow.data();
  }
};

/// Rows, the norm before the product, and the words that say so.
struct Input {
  int64_t rows, K, ldx;
  DType dtype;
  InputNorm norm;
  Floats x, weight, bias;

  Input(int64_t rows, int64_t K, DType dtype, InputNorm norm)
      : rows(rows), K(K), ldx(K + 8), dtype(dtype), norm(norm),
        x(testing::randomFloats(rows * ldx, 1)),
        weight(testing::randomFloats(K, 2)), bias(testing::randomFloats(K, 3)) {
    for (float& v : x)
      v = 3.0f * v + 0.5f; // a mean, and no unit variance
  }

  NormedRows words() const {
    return {rows,
            x.data(),
            ldx,
            K,
            static_cast<int64_t>(dtype),
            int64_t(norm),
            weight.data(),
            bias.data(),
            1e-3,
            offset()};
  }

  double offset() const {
    return norm == InputNorm::RootMeanSquare ? 1.0 : 0.0;
  }

  /// The normed rows [rows, K].
  Floats normed() const {
    Floats out(rows * K);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = x.data() + r * ldx;
      double mean = 0, squares = 0;
      for (int64_t k = 0; k < K && norm == InputNorm::Layer; ++k)
        mean += row[k] / double(K);
      for (int64_t k = 0; k < K; ++k)
        squares += (row[k] - mean) * (row[k] - mean) / double(K);
      const double factor = 1 / std::sqrt(squares + 1e-3);
      for (int64_t k = 0; k < K; ++k)
        out[r * K + k] =
            norm == InputNorm::None
                ? row[k]
                : (row[k] - mean) * factor * (weight[k] + offset()) +
                      (norm == InputNorm::Layer ? bias[k] : 0);
    }
    return out;
  }

  /// The normed rows times a weight, by the cpu kernel, plus its bias.
  Floats product(const Weight& w, int64_t N, const Floats& bias) const {
    Floats in = normed(), out(rows * N);
    LinearArgs a = {};
    a.rows = rows;
    a.x = in.data();
    a.ldx = a.K = K;
    a.dtype = static_cast<int64_t>(dtype);
    a.layout = static_cast<int64_t>(WeightLayout::RowMajor);
    a.count = 1;
    a.weights[0] = {w.data(dtype), out.data(), N, N, nullptr, nullptr};
    const int64_t panel = kPanelBytes / dtypeBytes(dtype);
    testing::runCpu("linear", a, rows, (N + panel - 1) / panel * panel);
    for (int64_t i = 0; i < rows * N && !bias.empty(); ++i)
      out[i] += bias[i % N];
    return out;
  }
};

/// y / sqrt(mean(y^2) + eps) * (weight + offset) of runs of `width`.
void normRuns(Floats& y, int64_t width, const Floats& weight, double eps,
              double offset) {
  for (size_t begin = 0; begin < y.size(); begin += width) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i)
      squares += double{y[begin + i]} * y[begin + i] / double(width);
    for (int64_t i = 0; i < width; ++i)
      y[begin + i] *= (weight[i] + offset) / std::sqrt(squares + eps);
  }
}

double activated(int64_t kind, double x) {
  switch (kind) {
  case 1:
    return x / (1 + std::exp(-x));
  case 2:
    return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
  case 3:
    return x / 2 *
           (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case 4:
    return std::max(x, 0.0);
  default:
    return x;
  }
}

/// What surrounds a product of `fused_linear`.
struct Around {
  InputNorm norm = InputNorm::None;
  bool hasBias = false;
  bool isGated = false;
  int64_t activation = 0;
  double softcap = 0;
  bool hasPostNorm = false;
  bool hasResidual = false;
};

void expectFusedLinear(int64_t rows, int64_t K, int64_t N, DType dtype,
                       const Around& around, int64_t invalid = 0) {
  SCOPED_TRACE(::testing::Message()
               << rows << " rows, K " << K << ", N " << N << " dtype "
               << static_cast<int>(dtype) << " norm " << int(around.norm)
               << " gated " << around.isGated << " activation "
               << around.activation << " post " << around.hasPostNorm);
  // A library needs rows at multiples of 16 bytes.
  const int64_t ldy = N % 4 == 0 ? N + 4 : N + 3;
  const int64_t ldr = N % 4 == 0 ? N + 8 : N + 1;
  Input in(rows, K, dtype, around.norm);
  in.rows -= invalid;
  Weight w0(N, K, 4), w1(N, K, 5);
  Floats bias0 = around.hasBias ? testing::randomFloats(N, 6) : Floats();
  Floats bias1 = around.hasBias ? testing::randomFloats(N, 7) : Floats();
  Floats residual = testing::randomFloats(rows * ldr, 8, 10.0f);
  Floats post = testing::randomFloats(N, 9);

  Floats made = in.product(w0, N, bias0), up = in.product(w1, N, bias1);
  for (size_t i = 0; i < made.size(); ++i) {
    double v = activated(around.activation, made[i]);
    v *= around.isGated ? up[i] : 1;
    made[i] = around.softcap == 0
                  ? v
                  : around.softcap * std::tanh(v / around.softcap);
  }
  if (around.hasPostNorm)
    normRuns(made, N, post, 1e-2, 1.0);
  Guarded<float> y(rows * ldy);
  Floats expected = y.values();
  for (int64_t r = 0; r < in.rows; ++r)
    for (int64_t n = 0; n < N; ++n)
      expected[r * ldy + n] =
          made[r * N + n] + (around.hasResidual ? residual[r * ldr + n] : 0.0f);

  FusedLinearArgs a = {};
  a.in = in.words();
  a.N = N;
  a.count = around.isGated ? 2 : 1;
  a.w0 = w0.data(dtype);
  a.bias0 = around.hasBias ? bias0.data() : nullptr;
  a.w1 = around.isGated ? w1.data(dtype) : nullptr;
  a.bias1 = around.hasBias ? bias1.data() : nullptr;
  a.activation = around.activation;
  a.softcap = around.softcap;
  a.postWeight = around.hasPostNorm ? post.data() : nullptr;
  a.postEps = 1e-2;
  a.postOffset = 1.0;
  a.residual = around.hasResidual ? residual.data() : nullptr;
  a.ldr = ldr;
  a.y = y.data();
  a.ldy = ldy;
  testing::runCuda("fused_linear", a, rows, N);
  // Many rows are rounded.
  const bool isRounded = dtype == DType::BF16 && rows > 16;
  EXPECT_LT(testing::relativeError(y.values(), expected),
            isRounded ? testing::kBf16Error : kBound);
  EXPECT_TRUE(y.guardsHold());
  if (!isRounded || a.in.ldx % 8 != 0)
    return;
  // What was rounded before has the same bits.
  Guarded<float> same(rows * ldy);
  const std::vector<uint16_t> rounded = testing::narrowed(in.x);
  a.in.x = reinterpret_cast<const float*>(rounded.data());
  a.factorDtype = static_cast<int64_t>(DType::BF16);
  a.y = same.data();
  testing::runCuda("fused_linear", a, rows, N);
  EXPECT_TRUE(testing::sameBits(same.values(), y.values()));
  EXPECT_TRUE(same.guardsHold());
}

constexpr InputNorm kNorms[] = {InputNorm::None, InputNorm::RootMeanSquare,
                                InputNorm::Layer};

TEST(CudaFusedLinear, normsAnyNumberOfRows) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (InputNorm norm : kNorms)
      for (int64_t rows = 1; rows <= 16; rows += rows < 5 ? 1 : 3)
        expectFusedLinear(rows, 264, 21, dtype, {.norm = norm});
}

TEST(CudaFusedLinear, hasEachPartBehindTheProduct) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 2, 4, 7, 16}) {
      expectFusedLinear(rows, 72, 33, dtype, {.hasBias = true});
      expectFusedLinear(rows, 72, 33, dtype, {.hasResidual = true});
      expectFusedLinear(rows, 72, 33, dtype, {.softcap = 1.5});
      expectFusedLinear(rows, 72, 33, dtype, {.hasPostNorm = true});
      expectFusedLinear(rows, 72, 33, dtype,
                        {.hasPostNorm = true, .hasResidual = true});
    }
}

TEST(CudaFusedLinear, hasEachActivationWithAndWithoutAPartner) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t activation : {0, 1, 2, 3, 4})
      for (bool isGated : {false, true})
        expectFusedLinear(activation == 2 ? 5 : 1, 40, 19, dtype,
                          {.norm = InputNorm::RootMeanSquare,
                           .isGated = isGated,
                           .activation = activation});
}

TEST(CudaFusedLinear, hasAllPartsTogether) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (InputNorm norm : kNorms)
      for (int64_t rows : {1, 3, 12})
        expectFusedLinear(rows, 136, 50, dtype,
                          {norm, true, true, 1, 30.0, true, true});
}

TEST(CudaFusedLinear, sharesLongWeightsAmongWarps) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t K : {1024, 2056, 4104})
      for (InputNorm norm : kNorms)
        expectFusedLinear(K == 2056 ? 4 : 1, K, 9, dtype,
                          {.norm = norm, .hasResidual = true});
}

TEST(CudaFusedLinear, takesManyRowsWithoutANorm) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {17, 40, 150}) {
      expectFusedLinear(rows, 72, 36, dtype, {.hasBias = true});
      expectFusedLinear(rows, 72, 33, dtype, {.activation = 3});
      expectFusedLinear(rows, 264, 140, dtype,
                        {.hasBias = true, .activation = 3});
      expectFusedLinear(rows, 72, 33, dtype,
                        {.hasBias = true, .hasResidual = true}, 9);
    }
}

// Bias, gelu and residual are the library's; its results and addends begin at
// multiples of 16 bytes.
TEST(CudaFusedLinear, takesManyRowsByTheLibrary) {
  testing::FakeLibrary library;
  for (int64_t rows : {17, 40}) {
    expectFusedLinear(rows, 72, 36, DType::BF16, {});
    expectFusedLinear(rows, 72, 36, DType::BF16, {.hasBias = true});
    expectFusedLinear(rows, 72, 36, DType::BF16, {.activation = 3});
    expectFusedLinear(rows, 72, 36, DType::BF16,
                      {.hasBias = true, .activation = 3});
    expectFusedLinear(rows, 72, 36, DType::BF16, {.hasResidual = true});
    expectFusedLinear(rows, 72, 36, DType::BF16,
                      {.hasBias = true, .hasResidual = true});
  }
  library.expectLaunches(24);
  expectFusedLinear(40, 72, 34, DType::BF16, {.hasBias = true}); // rows of y
  expectFusedLinear(40, 72, 36, DType::BF16,
                    {.activation = 3, .hasResidual = true});
  expectFusedLinear(16, 72, 36, DType::BF16, {.hasBias = true});
  expectFusedLinear(40, 72, 36, DType::F32, {.hasBias = true});
  library.expectLaunches(24);
}

TEST(CudaFusedLinear, leavesInvalidRowsAlone) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (bool hasPostNorm : {false, true}) {
      const Around around = {.norm = InputNorm::RootMeanSquare,
                             .hasPostNorm = hasPostNorm,
                             .hasResidual = true};
      expectFusedLinear(8, 64, 40, dtype, around, 5);
      expectFusedLinear(16, 64, 40, dtype, around, 8);
    }
}

TEST(CudaFusedLinear, refusesWhatItCannotRead) {
  auto refusal = [](auto change) {
    Input in(1, 64, DType::BF16, InputNorm::None);
    Weight w(8, 64, 1);
    Floats y(8);
    FusedLinearArgs a = {};
    a.in = in.words();
    a.N = 8;
    a.count = 1;
    a.w0 = w.data(DType::BF16);
    a.y = y.data();
    a.ldy = 8;
    int64_t rows = 1;
    change(a, rows);
    return testing::runCudaKernel(
        "fused_linear", reinterpret_cast<const uint64_t*>(&a), rows, 8);
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal([](auto& a, auto&) { a.in.K = 60; }),
              HasSubstr("LLMC-E0802"));
  EXPECT_THAT(refusal([](auto& a, auto&) {
                a.w0 = static_cast<const uint8_t*>(a.w0) + 2;
              }),
              HasSubstr("LLMC-E0802"));
  for (auto change : {+[](FusedLinearArgs& a) { a.in.norm = 1; },
                      +[](FusedLinearArgs& a) { a.count = 2; },
                      +[](FusedLinearArgs& a) { a.activation = 2; },
                      +[](FusedLinearArgs& a) { a.softcap = 1; }})
    EXPECT_THAT(refusal([&](auto& a, auto& rows) {
                  rows = 17;
                  change(a);
                }),
                HasSubstr("LLMC-E0802"));
  EXPECT_EQ(refusal([](auto&, auto&) {}), "");
}

// ---- linear_rope_append ----

/// Heads, and what happens to them.
struct Heads {
  int64_t H, KV, D, rotary, style;
  bool hasNorm = false;
  bool hasBias = false;
};

/// Sequences of R rows whose pages lie in disorder.
struct Cache {
  int64_t R, pages = 3;
  std::vector<int32_t> positions, blockTable;

  Cache(int64_t rows, int64_t R) : R(R) {
    const int64_t sequences = (rows + R - 1) / R;
    for (int64_t r = 0; r < rows; ++r)
      positions.push_back(r % 5 == 4 ? -1 : (r * 37 + 61) % 180);
    for (int64_t i = 0; i < sequences * pages; ++i)
      blockTable.push_back(static_cast<int32_t>(sequences * pages - 1 - i));
  }

  int64_t elements(const Heads& h) const {
    return static_cast<int64_t>(blockTable.size()) * h.KV * kPageTokens * h.D;
  }
};

Floats rotaryTable(int64_t positions, int64_t rotary) {
  Floats table;
  for (int64_t p = 0; p < positions; ++p)
    for (int part = 0; part < 2; ++part)
      for (int64_t i = 0; i < rotary / 2; ++i) {
        const double angle = p * std::pow(100.0, -2.0 * i / rotary);
        table.push_back(part == 0 ? std::cos(angle) : std::sin(angle));
      }
  return table;
}

template <typename T>
Floats widened(const std::vector<T>& values) {
  Floats out;
  for (T x : values)
    if constexpr (sizeof(T) == 2)
      out.push_back(testing::fromBf16(x));
    else
      out.push_back(x);
  return out;
}

template <typename T>
void expectAppend(int64_t rows, int64_t K, DType dtype, InputNorm norm,
                  const Heads& h, int64_t R = 1) {
  SCOPED_TRACE(::testing::Message()
               << rows << " rows, K " << K << ", H " << h.H << " KV " << h.KV
               << " D " << h.D << " style " << h.style << " norm " << h.hasNorm
               << " dtype " << static_cast<int>(dtype));
  Input in(rows, K, dtype, norm);
  Cache cache(rows, R);
  const int64_t widths[] = {h.H * h.D, h.KV * h.D, h.KV * h.D};
  std::vector<Weight> weights;
  std::vector<Floats> biases, made;
  for (int j = 0; j < 3; ++j) {
    weights.emplace_back(widths[j], K, 10 + j);
    biases.push_back(h.hasBias ? testing::randomFloats(widths[j], 20 + j)
                               : Floats());
    made.push_back(in.product(weights[j], widths[j], biases[j]));
  }
  const Floats normQ = testing::randomFloats(h.D, 30),
               normK = testing::randomFloats(h.D, 31);
  if (h.hasNorm) {
    normRuns(made[0], h.D, normQ, 1e-2, 1.0);
    normRuns(made[1], h.D, normK, 1e-2, 1.0);
  }
  const Floats table = rotaryTable(192, h.rotary);
  const int64_t ldo = widths[0] + 5;
  Guarded<float> cpuQ(rows * ldo), cudaQ(rows * ldo);
  Guarded<T> cpuKeys(cache.elements(h)), cpuValues(cache.elements(h));
  Guarded<T> cudaKeys(cache.elements(h)), cudaValues(cache.elements(h));
  const int64_t cacheDtype =
      static_cast<int64_t>(sizeof(T) == 2 ? DType::BF16 : DType::F32);

  RopeAppendArgs cpu = {};
  cpu.rows = rows;
  cpu.q = made[0].data();
  cpu.k = made[1].data();
  cpu.v = made[2].data();
  cpu.positions = cache.positions.data();
  cpu.table = table.data();
  cpu.blockTable = cache.blockTable.data();
  cpu.qOut = cpuQ.data();
  cpu.keyCache = cpuKeys.data();
  cpu.valueCache = cpuValues.data();
  cpu.R = R;
  cpu.H = h.H;
  cpu.KV = h.KV;
  cpu.D = h.D;
  cpu.rotary = h.rotary;
  cpu.style = h.style;
  cpu.pages = cache.pages;
  cpu.dtype = cacheDtype;
  cpu.ldq = widths[0];
  cpu.ldk = cpu.ldv = widths[1];
  cpu.ldo = ldo;
  testing::runCpu("rope_append", cpu, rows, h.H + h.KV);

  LinearRopeAppendArgs a = {};
  a.in = in.words();
  a.w0 = weights[0].data(dtype);
  a.w1 = weights[1].data(dtype);
  a.w2 = weights[2].data(dtype);
  a.bias0 = h.hasBias ? biases[0].data() : nullptr;
  a.bias1 = h.hasBias ? biases[1].data() : nullptr;
  a.bias2 = h.hasBias ? biases[2].data() : nullptr;
  a.headNormQ = h.hasNorm ? normQ.data() : nullptr;
  a.headNormK = h.hasNorm ? normK.data() : nullptr;
  a.headEps = 1e-2;
  a.headOffset = 1.0;
  a.positions = cpu.positions;
  a.table = h.rotary > 0 ? table.data() : nullptr;
  a.blockTable = cpu.blockTable;
  a.qOut = cudaQ.data();
  a.ldo = ldo;
  a.keyCache = cudaKeys.data();
  a.valueCache = cudaValues.data();
  a.R = R;
  a.H = h.H;
  a.KV = h.KV;
  a.D = h.D;
  a.rotary = h.rotary;
  a.style = h.style;
  a.pages = cache.pages;
  a.cacheDtype = cacheDtype;
  testing::runCuda("linear_rope_append", a, rows, h.H + 2 * h.KV);

  EXPECT_LT(testing::relativeError(cudaQ.values(), cpuQ.values()), kBound);
  // An element may lie on either side of a rounding to bf16, by 2^-8 of it.
  const double bound = sizeof(T) == 2 ? 1e-3 : kBound;
  EXPECT_LT(testing::relativeError(
                widened(cudaKeys.values()),
                widened(testing::pagesOnCuda(cpuKeys.values(), h.D, true))),
            bound);
  EXPECT_LT(testing::relativeError(
                widened(cudaValues.values()),
                widened(testing::pagesOnCuda(cpuValues.values(), h.D, false))),
            bound);
  EXPECT_TRUE(cudaQ.guardsHold() && cudaKeys.guardsHold() &&
              cudaValues.guardsHold());
}

void expectAppend(int64_t rows, int64_t K, InputNorm norm, const Heads& heads,
                  int64_t R = 1) {
  expectAppend<float>(rows, K, DType::F32, norm, heads, R);
  expectAppend<uint16_t>(rows, K, DType::BF16, norm, heads, R);
}

TEST(CudaLinearRopeAppend, takesAnyNumberOfRows) {
  for (int64_t rows = 1; rows <= 16; rows += rows < 5 ? 1 : 3)
    expectAppend(rows, 72, InputNorm::RootMeanSquare, {5, 2, 20, 20, 0});
}

TEST(CudaLinearRopeAppend, turnsInEitherStyleAllOrPartOfAHead) {
  for (int64_t style : {0, 1})
    for (int64_t rotary : {24, 8, 0})
      for (int64_t rows : {1, 6})
        expectAppend(rows, 40, InputNorm::None, {3, 1, 24, rotary, style});
}

TEST(CudaLinearRopeAppend, normsHeadsAndAddsBiases) {
  for (int64_t rows : {1, 2, 4, 11})
    for (bool hasNorm : {false, true})
      for (bool hasBias : {false, true})
        for (InputNorm norm : kNorms)
          expectAppend(rows, 64, norm, {2, 1, 42, 42, 0, hasNorm, hasBias});
}

TEST(CudaLinearRopeAppend, followsSequencesOfSeveralRows) {
  for (bool hasNorm : {false, true})
    expectAppend(12, 48, InputNorm::RootMeanSquare, {4, 2, 16, 16, 0, hasNorm},
                 4);
}

TEST(CudaLinearRopeAppend, sharesLongWeightsAmongWarps) {
  for (bool hasNorm : {false, true})
    expectAppend(1, 2048, InputNorm::RootMeanSquare,
                 {2, 1, 64, 64, 0, hasNorm});
}

TEST(CudaLinearRopeAppend, fillsPagesThatArePanels) {
  for (int64_t style : {0, 1})
    for (int64_t rows : {1, 3, 9})
      for (bool hasNorm : {false, true})
        expectAppend(rows, 40, InputNorm::None,
                     {2, 2, 128, 96, style, hasNorm});
}

} // namespace
} // namespace llmrt
