// SPDX-License-Identifier: Apache-2.0
// exp, tanh, erf and bf16 rounding of generated code against the C library in
// double. LLMC_EXHAUSTIVE=1 tries every float instead of every 509th: a few
// minutes.
#include "tests/codegen/GeneratedKernels.h"
#include "tests/codegen/KernelRun.h"

#include <cstdlib>
#include <gtest/gtest.h>
#include <limits>

namespace llmc {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string formOf(const std::string& function) {
  return "func.func @f(%x: tensor<?x4096xf32>) -> tensor<?x4096xf32> {\n"
         "%i = arith.constant 0 : index\n"
         "%n = tensor.dim %x, %i : tensor<?x4096xf32>\n"
         "%e = tensor.empty(%n) : tensor<?x4096xf32>\n"
         "%y = linalg.generic {indexing_maps = [affine_map<(r, c) -> (r, c)>, "
         "affine_map<(r, c) -> (r, c)>], iterator_types = [\"parallel\", "
         "\"parallel\"]} ins(%x : tensor<?x4096xf32>) outs(%e : "
         "tensor<?x4096xf32>) {\n^bb0(%a: f32, %b: f32):\n"
         "%v = " +
         function +
         " %a : f32\nlinalg.yield %v : f32\n"
         "} -> tensor<?x4096xf32>\nreturn %y : tensor<?x4096xf32>\n}\n";
}

/// Distance to the exact value in units of the last place of the nearest float.
double ulpError(float got, double exact) {
  if (std::isnan(exact))
    return std::isnan(got) ? 0 : kInfinity;
  float nearest = static_cast<float>(exact);
  if (std::isinf(nearest))
    return got == nearest ? 0 : kInfinity;
  int exponent = std::max(exact == 0 ? -126 : std::ilogb(exact), -126);
  return std::fabs(double(got) - exact) / std::ldexp(1.0, exponent - 23);
}

struct Function {
  const char* name;
  double (*exact)(double);
};

void PrintTo(const Function& f, std::ostream* os) { *os << f.name; }

class MathExpansion : public testing::TestWithParam<Function> {};

// Bound of the three functions; measured over all floats: see MathExpansion.h.
constexpr double kMaxUlp = 2;

TEST_P(MathExpansion, IsWithinTwoUlpOfEveryFloat) {
  GeneratedKernels kernels(formOf(std::string("math.") + GetParam().name));
  int level = GeneratedKernels::runnableLevels().back();
  LlmrtKernelFn function = kernels.function("f", level);
  ASSERT_NE(function, nullptr) << kernels.diagnostics();
  uint64_t step = std::getenv("LLMC_EXHAUSTIVE") ? 1 : 509;
  Tensor x(1, 4096, false), y(1, 4096, false);
  double worst = 0;
  float worstAt = 0;
  for (uint64_t bits = 0; bits < (uint64_t(1) << 32);) {
    for (int64_t i = 0; i < x.columns; ++i, bits += step)
      x.set(i, std::bit_cast<float>(static_cast<uint32_t>(bits)));
    runKernel(function, {&x}, {&y});
    for (int64_t i = 0; i < x.columns; ++i) {
      double error = ulpError(y.at(i), GetParam().exact(x.at(i)));
      if (error > worst) {
        worst = error;
        worstAt = x.at(i);
      }
    }
  }
  RecordProperty("worst", std::to_string(worst));
  std::printf("%s: at most %.3f ulp, at %.9g\n", GetParam().name, worst,
              worstAt);
  EXPECT_LT(worst, kMaxUlp) << GetParam().name << " at " << worstAt;
}

TEST_P(MathExpansion, IsExactAtTheEnds) {
  GeneratedKernels kernels(formOf(std::string("math.") + GetParam().name));
  std::vector<float> points = {0.0f,
                               -0.0f,
                               kInfinity,
                               -kInfinity,
                               1e30f,
                               -1e30f,
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::quiet_NaN()};
  for (int level : GeneratedKernels::runnableLevels()) {
    LlmrtKernelFn function = kernels.function("f", level);
    ASSERT_NE(function, nullptr) << kernels.diagnostics();
    Tensor x(1, 4096, false), y(1, 4096, false);
    for (int64_t i = 0; i < x.columns; ++i)
      x.set(i, points[i % points.size()]);
    runKernel(function, {&x}, {&y});
    for (size_t i = 0; i < points.size(); ++i) {
      float exact = GetParam().exact(points[i]);
      if (std::isnan(exact))
        EXPECT_TRUE(std::isnan(y.at(i)));
      else
        EXPECT_EQ(std::bit_cast<uint32_t>(y.at(i)),
                  std::bit_cast<uint32_t>(exact))
            << GetParam().name << " of " << points[i];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Functions, MathExpansion,
                         testing::Values(Function{"exp", std::exp},
                                         Function{"tanh", std::tanh},
                                         Function{"erf", std::erf}),
                         [](const auto& info) { return info.param.name; });

// A product of two bf16 numbers is exact in f32 unless it leaves f32's range,
// so that the kernel's only rounding is the one to bf16.
TEST(Bf16Rounding, IsToNearestEven) {
  GeneratedKernels kernels(
      "plan.kernel @mul elementwise {\n"
      "^bb0(%a: tensor<?x4096xbf16>, %b: tensor<?x4096xbf16>):\n"
      "%r = llm.mul %a, %b : tensor<?x4096xbf16>\n"
      "plan.yield %r : tensor<?x4096xbf16>\n}\n");
  for (int level : GeneratedKernels::runnableLevels()) {
    LlmrtKernelFn function = kernels.function("mul", level);
    ASSERT_NE(function, nullptr) << kernels.diagnostics();
    std::mt19937 generator(7);
    Tensor a(64, 4096, true), b(64, 4096, true), r(64, 4096, true);
    for (Tensor* t : {&a, &b})
      for (int64_t i = 0; i < t->numElements(); ++i) {
        uint16_t bits = generator();
        std::memcpy(t->data() + 2 * i, &bits, 2);
      }
    runKernel(function, {&a, &b}, {&r});
    for (int64_t i = 0; i < r.numElements(); ++i) {
      float exact = a.at(i) * b.at(i);
      if (std::isnan(exact))
        ASSERT_TRUE(std::isnan(r.at(i)));
      else
        ASSERT_EQ(r.at(i), bf16ToFloat(nearestBf16(exact)))
            << a.at(i) << " * " << b.at(i);
    }
  }
}

} // namespace
} // namespace llmc
