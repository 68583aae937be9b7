// SPDX-License-Identifier: Apache-2.0
// exp and tanh of VectorMath.h against libm in double: every
// LLMRT_MATH_STRIDE-th float (default 97, odd, so that all mantissa bits vary;
// 5 for the figures in the header).
#include "tests/kernels/KernelRun.h"

namespace llmrt {

#define LLMRT_LEVEL_FUNCTIONS(level)                                           \
  namespace level {                                                            \
  void expFloats(const float*, float*, int64_t);                               \
  void tanhFloats(const float*, float*, int64_t);                              \
  }
LLMRT_LEVEL_FUNCTIONS(baseline)
LLMRT_LEVEL_FUNCTIONS(avx2)
LLMRT_LEVEL_FUNCTIONS(avx512)

namespace {

/// Measured 1.01 and 1.33 (VectorMath.h), with some room for other compilers.
constexpr double kExpMaxUlp = 1.1;
constexpr double kTanhMaxUlp = 1.5;

using Floats = void (*)(const float*, float*, int64_t);
constexpr Floats kExp[] = {baseline::expFloats, avx2::expFloats,
                           avx512::expFloats};
constexpr Floats kTanh[] = {baseline::tanhFloats, avx2::tanhFloats,
                            avx512::tanhFloats};

uint32_t stride() {
  const char* text = std::getenv("LLMRT_MATH_STRIDE");
  return text ? std::max(1, std::atoi(text)) : 97;
}

// The largest distance from `exact`, in units in the last place of it, over
// both signs of the magnitudes in [low, high].
double largestUlp(Floats function, double (*exact)(double), float low,
                  float high) {
  double worst = 0;
  std::vector<float> x, y;
  auto flush = [&] {
    x.resize((x.size() + 15) / 16 * 16, 0.0f);
    y.resize(x.size());
    function(x.data(), y.data(), x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      double want = exact(x[i]);
      int exponent;
      std::frexp(want, &exponent);
      double ulp = std::ldexp(1.0, std::max(exponent - 24, -149));
      worst = std::max(worst, std::abs(y[i] - want) / ulp);
    }
    x.clear();
  };
  for (uint32_t bits = 0; bits < 0x7F800000; bits += stride())
    for (float v : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)}) {
      if (v < low || v > high)
        continue;
      x.push_back(v);
      if (x.size() >= 4096)
        flush();
    }
  flush();
  return worst;
}

TEST(VectorMath, expIsWithinItsBound) {
  for (CpuLevel level : testing::levels()) {
    double ulp =
        largestUlp(kExp[static_cast<int>(level)], std::exp, -87.33f, 88.37f);
    RecordProperty(std::string(cpuLevelName(level)), std::to_string(ulp));
    EXPECT_LE(ulp, kExpMaxUlp) << cpuLevelName(level);
    std::printf("exp %s: %.3f ulp\n", cpuLevelName(level).data(), ulp);
  }
}

TEST(VectorMath, tanhIsWithinItsBound) {
  for (CpuLevel level : testing::levels()) {
    double ulp = largestUlp(kTanh[static_cast<int>(level)], std::tanh, -3.4e38f,
                            3.4e38f);
    EXPECT_LE(ulp, kTanhMaxUlp) << cpuLevelName(level);
    std::printf("tanh %s: %.3f ulp\n", cpuLevelName(level).data(), ulp);
  }
}

TEST(VectorMath, edges) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (CpuLevel level : testing::levels()) {
    std::vector<float> x = {0.0f, -0.0f,  -inf, -1000.0f, NAN, 1000.0f,
                            inf,  -88.0f, 0,    0,        0,   0,
                            0,    0,      0,    0};
    std::vector<float> y(16);
    kExp[static_cast<int>(level)](x.data(), y.data(), 16);
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], 1.0f);
    EXPECT_EQ(y[2], 0.0f);
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_GT(y[5], 2e38f);
    EXPECT_GT(y[6], 2e38f);
    EXPECT_EQ(y[7], 0.0f);
    kTanh[static_cast<int>(level)](x.data(), y.data(), 16);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[2], -1.0f);
    EXPECT_EQ(y[3], -1.0f);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_EQ(y[6], 1.0f);
  }
}

} // namespace
} // namespace llmrt
