// SPDX-License-Identifier: Apache-2.0
// linear_input_gradient and linear_weight_gradient: every element bit for bit
// against the sum that Kernels.def defines, for every level, layout, dtype and
// cut, and the definition against a sum in double; sum_rows and
// embedding_gradient against plain loops.
#include "tests/kernels/KernelRun.h"

#include "runtime/kernels/Pack.h"

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

const std::vector<WeightLayout> kLayouts = {WeightLayout::RowMajor,
                                            WeightLayout::Panel};

int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The bytes of a weight given as rows [N, K], padded panels included.
std::vector<char> layOut(const std::vector<float>& rows, int64_t N, int64_t K,
                         DType dtype, WeightLayout layout) {
  std::vector<uint16_t> narrow;
  for (float v : rows)
    narrow.push_back(testing::toBf16(v));
  const char* source = dtype == DType::F32
                           ? reinterpret_cast<const char*>(rows.data())
                           : reinterpret_cast<const char*>(narrow.data());
  if (layout == WeightLayout::RowMajor)
    return {source, source + N * K * dtypeBytes(dtype)};
  std::vector<char> bytes(panelBytes(dtype, N, K));
  packPanels({source, dtype, K, N, K, bytes.data(), dtype, 0,
              divideUp(N, panelCols(dtype))});
  return bytes;
}

struct Shape {
  int64_t rows, N, K;
};

class InputGradient
    : public ::testing::TestWithParam<std::tuple<Shape, DType, WeightLayout>> {
};

TEST_P(InputGradient, equalsTheDefinedSumBitForBit) {
  auto [s, dtype, layout] = GetParam();
  const int64_t lddy = s.N + 5, lddx = s.K + 3;
  std::vector<float> w = testing::randomFloats(s.N * s.K, 1);
  if (dtype == DType::BF16)
    for (float& v : w)
      v = testing::fromBf16(testing::toBf16(v));
  std::vector<float> dy = testing::randomFloats(s.rows * lddy, 2);
  std::vector<char> bytes = layOut(w, s.N, s.K, dtype, layout);
  for (CpuLevel level : testing::levels()) {
    std::vector<float> expected(s.rows * lddx, Guarded<float>::poison());
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t k = 0; k < s.K; ++k) {
        float sum = 0.0f;
        for (int64_t n = 0; n < s.N; ++n)
          sum = testing::levelFma(level, dy[r * lddy + n], w[n * s.K + k], sum);
        expected[r * lddx + k] = sum;
      }
    for (Cut cut : {Cut{1}, Cut{2}, Cut{1, s.rows, 64}, Cut{1, 5, 128},
                    Cut{1, 150, 64}}) {
      Guarded<float> dx(s.rows * lddx);
      LinearInputGradientArgs a = {s.rows,
                                   dy.data(),
                                   lddy,
                                   s.N,
                                   bytes.data(),
                                   static_cast<int64_t>(dtype),
                                   static_cast<int64_t>(layout),
                                   dx.data(),
                                   lddx,
                                   s.K,
                                   0};
      testing::runKernel("linear_input_gradient", level, a, s.rows, s.K, cut);
      EXPECT_TRUE(testing::sameBits(dx.values(), expected))
          << cpuLevelName(level) << " threads " << cut.threads << " cut "
          << cut.rows << "x" << cut.cols;
      EXPECT_TRUE(dx.guardsHold());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, InputGradient,
    ::testing::Combine(
        ::testing::Values(Shape{1, 1, 1}, Shape{3, 40, 33}, Shape{17, 129, 70},
                          Shape{131, 65, 100}, Shape{300, 30, 64},
                          Shape{20, 1061, 45}, Shape{9, 2050, 32}),
        ::testing::Values(DType::F32, DType::BF16),
        ::testing::ValuesIn(kLayouts)));

struct WeightShape {
  int64_t rows, N, K, validN, validK;
};

class WeightGradient
    : public ::testing::TestWithParam<std::tuple<WeightShape, WeightLayout>> {
protected:
  // The place of element (n, k) of the gradient.
  int64_t at(int64_t n, int64_t k) const {
    auto [s, layout] = GetParam();
    if (layout == WeightLayout::RowMajor)
      return n * s.K + k;
    return n / 32 * 32 * s.K + k * 32 + n % 32;
  }
};

TEST_P(WeightGradient, equalsTheDefinedSumBitForBit) {
  auto [s, layout] = GetParam();
  const int64_t lddy = s.N + 5, ldx = s.K + 3, padded = divideUp(s.N, 32) * 32;
  const int64_t storedN = layout == WeightLayout::Panel ? padded : s.N;
  std::vector<float> dy = testing::randomFloats(s.rows * lddy, 1);
  std::vector<float> x = testing::randomFloats(s.rows * ldx, 2);
  std::vector<float> before = testing::randomFloats(storedN * s.K, 3);
  // What is not valid is not to be used: not even as a factor of zero.
  for (int64_t r = 0; r < s.rows; ++r) {
    std::fill(&dy[r * lddy + s.validN], &dy[r * lddy] + lddy, NAN);
    std::fill(&x[r * ldx + s.validK], &x[r * ldx] + ldx, NAN);
  }
  for (CpuLevel level : testing::levels())
    for (int64_t accumulate : {0, 1}) {
      std::vector<float> expected(storedN * s.K, 0.0f);
      for (int64_t n = 0; n < s.validN; ++n)
        for (int64_t k = 0; k < s.validK; ++k) {
          float sum = accumulate ? before[at(n, k)] : 0.0f;
          for (int64_t r = 0; r < s.rows; ++r)
            sum =
                testing::levelFma(level, dy[r * lddy + n], x[r * ldx + k], sum);
          expected[at(n, k)] = sum;
        }
      for (Cut cut : {Cut{1}, Cut{2}, Cut{1, 32, 64}, Cut{1, 64, 128},
                      Cut{1, padded, s.K}}) {
        Guarded<float> out(storedN * s.K);
        if (accumulate)
          std::copy(before.begin(), before.end(), out.data());
        LinearWeightGradientArgs a = {
            padded,     dy.data(),
            lddy,       x.data(),
            ldx,        s.rows,
            s.N,        s.K,
            out.data(), static_cast<int64_t>(layout),
            accumulate, s.validN,
            s.validK,   static_cast<int64_t>(DType::F32),
            0};
        testing::runKernel("linear_weight_gradient", level, a, padded, s.K,
                           cut);
        EXPECT_TRUE(testing::sameBits(out.values(), expected))
            << cpuLevelName(level) << " threads " << cut.threads << " cut "
            << cut.rows << "x" << cut.cols << " accumulate " << accumulate;
        EXPECT_TRUE(out.guardsHold());
      }
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, WeightGradient,
    ::testing::Combine(::testing::Values(WeightShape{1, 1, 1, 1, 1},
                                         WeightShape{5, 33, 40, 33, 40},
                                         WeightShape{37, 70, 100, 65, 93},
                                         WeightShape{37, 128, 320, 33, 320},
                                         WeightShape{64, 300, 150, 300, 150},
                                         WeightShape{1061, 45, 70, 45, 70},
                                         WeightShape{2049, 32, 16, 32, 15},
                                         WeightShape{0, 40, 70, 40, 70}),
                       ::testing::ValuesIn(kLayouts)));

TEST(WeightGradient, isCloseToTheProductInDouble) {
  const int64_t rows = 1000, N = 40, K = 30;
  std::vector<float> dy = testing::randomFloats(rows * N, 1);
  std::vector<float> x = testing::randomFloats(rows * K, 2);
  for (CpuLevel level : testing::levels()) {
    Guarded<float> out(N * K);
    LinearWeightGradientArgs a = {64,   dy.data(), N, x.data(),   K,
                                  rows, N,         K, out.data(), 0,
                                  0,    N,         K, 0,          0};
    testing::runKernel("linear_weight_gradient", level, a, 64, K);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t k = 0; k < K; ++k) {
        double sum = 0, magnitude = 0;
        for (int64_t r = 0; r < rows; ++r) {
          double term = double{dy[r * N + n]} * x[r * K + k];
          sum += term;
          magnitude += std::abs(term);
        }
        // As LinearTest: two roundings of u = 2^-24 for each step.
        ASSERT_NEAR(out[n * K + k], sum, 2 * rows * 0x1p-24 * magnitude);
      }
  }
}

TEST(SumRows, sumsRowsAndGroups) {
  const int64_t rows = 19;
  for (auto [C, W] :
       {std::pair<int64_t, int64_t>{150, 150}, {150, 75}, {96, 3}, {1, 1}})
    for (int64_t accumulate : {0, 1}) {
      const int64_t ldx = C + 2;
      std::vector<float> x = testing::randomFloats(rows * ldx, 1);
      std::vector<float> before = testing::randomFloats(W, 2);
      std::vector<float> expected(W, 0.0f);
      if (accumulate)
        expected = before;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < C; ++c)
          expected[c % W] += x[r * ldx + c];
      for (CpuLevel level : testing::levels())
        for (Cut cut : {Cut{1}, Cut{2}, Cut{1, 1, 1}, Cut{1, 1, 7}}) {
          Guarded<float> out(W);
          if (accumulate)
            std::copy(before.begin(), before.end(), out.data());
          SumRowsArgs a = {1, x.data(), ldx,        rows,
                           C, W,        out.data(), accumulate};
          testing::runKernel("sum_rows", level, a, 1, W, cut);
          EXPECT_TRUE(testing::sameBits(out.values(), expected))
              << C << " " << W;
          EXPECT_TRUE(out.guardsHold());
        }
    }
}

TEST(EmbeddingGradient, addsRowsOfItsPartOfTheVocabulary) {
  const int64_t V = 70, count = 66, C = 77, begin = 100;
  std::vector<int32_t> ids = {100, 165, 166, 99, 133, 0, -1, 133, 100, 133};
  const int64_t rows = ids.size();
  std::vector<float> dy = testing::randomFloats(rows * C, 1);
  for (WeightLayout layout : kLayouts)
    for (int64_t accumulate : {0, 1}) {
      const bool isPanel = layout == WeightLayout::Panel;
      const int64_t elements = (isPanel ? 96 : V) * C;
      std::vector<float> before = testing::randomFloats(elements, 2);
      std::vector<float> expected(elements, 0.0f);
      if (accumulate)
        expected = before;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < C; ++c) {
          int64_t v = ids[r] - begin;
          if (v >= 0 && v < count)
            expected[isPanel ? v / 32 * 32 * C + c * 32 + v % 32 : v * C + c] +=
                dy[r * C + c];
        }
      for (CpuLevel level : testing::levels())
        for (Cut cut : {Cut{1}, Cut{2}, Cut{1, 1, 1}, Cut{1, 1, 7}}) {
          Guarded<float> out(elements);
          if (accumulate)
            std::copy(before.begin(), before.end(), out.data());
          EmbeddingGradientArgs a = {1,         ids.data(),
                                     dy.data(), out.data(),
                                     rows,      C,
                                     begin,     count,
                                     V,         static_cast<int64_t>(layout),
                                     accumulate};
          testing::runKernel("embedding_gradient", level, a, 1, C, cut);
          EXPECT_TRUE(testing::sameBits(out.values(), expected));
          EXPECT_TRUE(out.guardsHold());
        }
    }
}

} // namespace
} // namespace llmrt
