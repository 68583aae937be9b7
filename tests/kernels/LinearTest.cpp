// SPDX-License-Identifier: Apache-2.0
// linear and packPanels: every product bit for bit against the sum that
// Kernels.def defines, for every level, layout, dtype, path and cut; slots;
// padding.
#include "tests/kernels/KernelRun.h"

#include "runtime/kernels/Pack.h"

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

/// A weight as the kernel reads it, and as plain f32 rows.
struct Weight {
  int64_t N, K;
  DType dtype;
  WeightLayout layout;
  std::vector<float> rows;
  std::vector<char> bytes;

  Weight(int64_t N, int64_t K, DType dtype, WeightLayout layout, int seed)
      : N(N), K(K), dtype(dtype), layout(layout),
        rows(testing::randomFloats(N * K, seed)) {
    std::vector<uint16_t> narrow(N * K);
    for (int64_t i = 0; i < N * K; ++i)
      if (dtype == DType::BF16)
        rows[i] = testing::fromBf16(narrow[i] = testing::toBf16(rows[i]));
    const void* source = dtype == DType::BF16
                             ? static_cast<const void*>(narrow.data())
                             : rows.data();
    if (layout == WeightLayout::RowMajor) {
      bytes.resize(N * K * dtypeBytes(dtype));
      std::memcpy(bytes.data(), source, bytes.size());
      return;
    }
    bytes.resize(panelBytes(dtype, N, K));
    packPanels({source, dtype, K, N, K, bytes.data(), dtype, 0,
                (N + panelCols(dtype) - 1) / panelCols(dtype)});
  }

  std::vector<float> product(CpuLevel level, const std::vector<float>& x,
                             int64_t rowsOfX, int64_t ldx) const {
    std::vector<float> y(rowsOfX * N);
    for (int64_t m = 0; m < rowsOfX; ++m)
      for (int64_t n = 0; n < N; ++n) {
        float sum = 0.0f;
        for (int64_t k = 0; k < K; ++k)
          sum = testing::levelFma(level, x[m * ldx + k], rows[n * K + k], sum);
        y[m * N + n] = sum;
      }
    return y;
  }

  int64_t gridCols() const {
    int64_t P = panelCols(dtype);
    return (N + P - 1) / P * P;
  }
};

LinearArgs linearArgs(const float* x, int64_t rows, int64_t ldx,
                      const std::vector<const Weight*>& weights,
                      std::vector<Guarded<float>>& y, bool zip = false) {
  LinearArgs args = {};
  args.rows = rows;
  args.x = x;
  args.ldx = ldx;
  args.K = weights[0]->K;
  args.dtype = static_cast<int64_t>(weights[0]->dtype);
  args.layout = static_cast<int64_t>(weights[0]->layout);
  args.zip = zip;
  args.count = weights.size();
  for (size_t j = 0; j < weights.size(); ++j)
    args.weights[j] = {weights[j]->bytes.data(),
                       y[j].data(),
                       weights[j]->N,
                       weights[j]->N,
                       nullptr,
                       nullptr};
  return args;
}

struct Shape {
  int64_t rows, N, K;
};

class LinearShapes
    : public ::testing::TestWithParam<std::tuple<Shape, DType, WeightLayout>> {
};

TEST_P(LinearShapes, equalsTheDefinedSumBitForBit) {
  auto [shape, dtype, layout] = GetParam();
  Weight weight(shape.N, shape.K, dtype, layout, 1);
  const int64_t ldx = shape.K + 3;
  std::vector<float> x = testing::randomFloats(shape.rows * ldx, 2);
  for (CpuLevel level : testing::levels()) {
    std::vector<float> expected = weight.product(level, x, shape.rows, ldx);
    for (Cut cut : {Cut{1}, Cut{2}, Cut{3}, Cut{1, shape.rows, 64},
                    Cut{1, 1, 64}, Cut{1, 5, 128}}) {
      std::vector<Guarded<float>> y(1, Guarded<float>(shape.rows * shape.N));
      LinearArgs args = linearArgs(x.data(), shape.rows, ldx, {&weight}, y);
      testing::runKernel("linear", level, args, shape.rows, weight.gridCols(),
                         cut);
      EXPECT_TRUE(testing::sameBits(y[0].values(), expected))
          << cpuLevelName(level) << " threads " << cut.threads << " cut "
          << cut.rows << "x" << cut.cols;
      EXPECT_TRUE(y[0].guardsHold());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, LinearShapes,
    ::testing::Combine(
        ::testing::Values(Shape{1, 1, 1}, Shape{1, 64, 256}, Shape{1, 301, 77},
                          Shape{2, 130, 300}, Shape{3, 97, 33},
                          Shape{4, 512, 40}, Shape{5, 65, 513},
                          Shape{14, 33, 256}, Shape{15, 96, 257},
                          Shape{29, 127, 64}, Shape{64, 70, 600},
                          Shape{520, 40, 31}, Shape{6, 33, 2100},
                          Shape{80, 34, 4100}, Shape{4, 40, 4100}),
        ::testing::Values(DType::F32, DType::BF16),
        ::testing::Values(WeightLayout::Panel, WeightLayout::RowMajor)));

TEST(Linear, bitsOfARowDoNotDependOnItsCompany) {
  Weight weight(200, 300, DType::BF16, WeightLayout::Panel, 3);
  std::vector<float> x = testing::randomFloats(40 * 300, 4);
  for (CpuLevel level : testing::levels()) {
    std::vector<Guarded<float>> whole(1, Guarded<float>(40 * 200));
    testing::runKernel("linear", level,
                       linearArgs(x.data(), 40, 300, {&weight}, whole), 40,
                       256);
    for (int64_t rows : {1, 2, 4, 5, 14, 16}) {
      std::vector<Guarded<float>> part(1, Guarded<float>(rows * 200));
      testing::runKernel(
          "linear", level,
          linearArgs(x.data() + 7 * 300, rows, 300, {&weight}, part), rows,
          256);
      EXPECT_EQ(std::memcmp(part[0].data(), whole[0].data() + 7 * 200,
                            rows * 200 * 4),
                0)
          << rows << " rows";
    }
  }
}

TEST(Linear, severalWeightsShareX) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 20}) {
      Weight a(70, 90, dtype, WeightLayout::Panel, 5);
      Weight b(33, 90, dtype, WeightLayout::Panel, 6);
      Weight c(128, 90, dtype, WeightLayout::Panel, 7);
      std::vector<float> x = testing::randomFloats(rows * 90, 8);
      for (CpuLevel level : testing::levels())
        for (Cut cut : {Cut{1}, Cut{3}, Cut{1, rows, 64}}) {
          std::vector<Guarded<float>> y;
          for (const Weight* w : {&a, &b, &c})
            y.emplace_back(rows * w->N);
          testing::runKernel(
              "linear", level, linearArgs(x.data(), rows, 90, {&a, &b, &c}, y),
              rows, a.gridCols() + b.gridCols() + c.gridCols(), cut);
          int j = 0;
          for (const Weight* w : {&a, &b, &c}) {
            EXPECT_TRUE(testing::sameBits(y[j].values(),
                                          w->product(level, x, rows, 90)))
                << "weight " << j;
            EXPECT_TRUE(y[j++].guardsHold());
          }
        }
    }
}

// A row kernel as the compiler generates it: out[r][k] = x[r][k] * factor.
// Words: rows, x, K, factor bits, out.
void scaleRows(const uint64_t* words, const LlmrtTile* tile, void* scratch) {
  std::memset(scratch, 0x7F, 4096);
  auto* x = reinterpret_cast<const float*>(words[1]);
  int64_t K = words[2];
  auto* out = reinterpret_cast<float*>(words[4]);
  for (int64_t r = tile->rowBegin; r < tile->rowEnd; ++r)
    for (int64_t k = 0; k < K; ++k)
      out[r * K + k] = x[r * K + k] * std::bit_cast<double>(words[3]);
}

// z[r][n] = a[r][n] * b[r][n]. Words: rows, a, b, z, N. Counts visits in z.
void multiplyColumns(const uint64_t* words, const LlmrtTile* tile, void*) {
  auto* a = reinterpret_cast<const float*>(words[1]);
  auto* b = reinterpret_cast<const float*>(words[2]);
  auto* z = reinterpret_cast<float*>(words[3]);
  int64_t N = words[4];
  for (int64_t r = tile->rowBegin; r < tile->rowEnd; ++r)
    for (int64_t n = tile->colBegin; n < tile->colEnd; ++n)
      z[r * N + n] = std::isnan(z[r * N + n]) ? a[r * N + n] * b[r * N + n]
                                              : -1e30f; // a second visit
}

TEST(Linear, zipRunsBothProductsThenTheEpilogue) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 3, 30, 510}) {
      Weight gate(97, 270, dtype, WeightLayout::Panel, 9);
      Weight up(97, 270, dtype, WeightLayout::Panel, 10);
      std::vector<float> x = testing::randomFloats(rows * 270, 11);
      std::vector<float> doubled = x;
      for (float& v : doubled)
        v *= 2.0f;
      for (CpuLevel level : testing::levels())
        for (Cut cut : {Cut{1}, Cut{2}, Cut{1, rows, 64}}) {
          std::vector<Guarded<float>> y(2, Guarded<float>(rows * 97));
          Guarded<float> z(rows * 97);
          LinearArgs args = linearArgs(nullptr, rows, 0, {&gate, &up}, y, true);
          uint64_t scaleWords[] = {static_cast<uint64_t>(rows),
                                   reinterpret_cast<uint64_t>(x.data()), 270,
                                   std::bit_cast<uint64_t>(2.0), 0};
          uint64_t mulWords[] = {static_cast<uint64_t>(rows),
                                 reinterpret_cast<uint64_t>(y[0].data()),
                                 reinterpret_cast<uint64_t>(y[1].data()),
                                 reinterpret_cast<uint64_t>(z.data()), 97};
          args.weights[1].epilogue = multiplyColumns;
          args.weights[1].epilogueArgs = mulWords;
          args.prologue = scaleRows;
          args.prologueArgs = scaleWords;
          args.prologueWords = 5;
          args.prologueOut = 4;
          testing::runKernel("linear", level, args, rows, gate.gridCols(), cut);
          std::vector<float> g = gate.product(level, doubled, rows, 270);
          std::vector<float> u = up.product(level, doubled, rows, 270);
          for (size_t i = 0; i < g.size(); ++i)
            g[i] *= u[i];
          EXPECT_TRUE(testing::sameBits(z.values(), g))
              << rows << " rows, " << cpuLevelName(level);
          EXPECT_TRUE(z.guardsHold());
          EXPECT_EQ(scaleWords[4], 0u) << "the caller's words are not written";
        }
    }
}

TEST(Linear, honoursLeadingDimensions) {
  for (int64_t rows : {2, 31}) {
    Weight weight(50, 20, DType::F32, WeightLayout::Panel, 12);
    std::vector<float> x = testing::randomFloats(rows * 20, 13);
    for (CpuLevel level : testing::levels()) {
      std::vector<Guarded<float>> y(1, Guarded<float>(rows * 61));
      LinearArgs args = linearArgs(x.data(), rows, 20, {&weight}, y);
      args.weights[0].ldy = 61;
      testing::runKernel("linear", level, args, rows, 64);
      std::vector<float> expected = weight.product(level, x, rows, 20);
      for (int64_t r = 0; r < rows; ++r) {
        EXPECT_EQ(std::memcmp(y[0].data() + r * 61, &expected[r * 50], 200), 0);
        for (int64_t c = 50; c < 61; ++c)
          EXPECT_TRUE(std::isnan(y[0][r * 61 + c]));
      }
    }
  }
}

TEST(Linear, isCloseToTheProductInDouble) {
  // Each of K steps rounds once (baseline: twice), so that the error is at most
  // 2 K u sum |x||w| with u = 2^-24.
  Weight weight(40, 1000, DType::F32, WeightLayout::Panel, 14);
  std::vector<float> x = testing::randomFloats(6 * 1000, 15);
  for (CpuLevel level : testing::levels()) {
    std::vector<Guarded<float>> y(1, Guarded<float>(6 * 40));
    testing::runKernel("linear", level,
                       linearArgs(x.data(), 6, 1000, {&weight}, y), 6, 64);
    for (int64_t m = 0; m < 6; ++m)
      for (int64_t n = 0; n < 40; ++n) {
        double sum = 0, magnitude = 0;
        for (int64_t k = 0; k < 1000; ++k) {
          double term = double{x[m * 1000 + k]} * weight.rows[n * 1000 + k];
          sum += term;
          magnitude += std::abs(term);
        }
        EXPECT_NEAR(y[0][m * 40 + n], sum, 2 * 1000 * 0x1p-24 * magnitude);
      }
  }
}

TEST(PackPanels, placesConvertsAndPads) {
  for (DType from : {DType::F32, DType::BF16})
    for (DType to : {DType::F32, DType::BF16})
      for (auto [N, K] : {std::pair<int64_t, int64_t>{1, 1},
                          {64, 32},
                          {100, 37},
                          {129, 16},
                          {70, 100}}) {
        std::vector<float> rows = testing::randomFloats(N * (K + 5), 16);
        std::vector<uint16_t> narrow;
        for (float& v : rows) {
          narrow.push_back(testing::toBf16(v));
          if (from == DType::BF16)
            v = testing::fromBf16(narrow.back());
        }
        int64_t P = panelCols(to);
        int64_t panels = (N + P - 1) / P;
        Guarded<uint16_t> out(panelBytes(to, N, K) / 2);
        const void* source = from == DType::F32
                                 ? static_cast<const void*>(rows.data())
                                 : narrow.data();
        // As two threads would.
        packPanels(
            {source, from, K + 5, N, K, out.data(), to, panels / 2, panels});
        packPanels({source, from, K + 5, N, K, out.data(), to, 0, panels / 2});
        EXPECT_TRUE(out.guardsHold());
        for (int64_t n = 0; n < panels * P; ++n)
          for (int64_t k = 0; k < K; ++k) {
            int64_t at = n / P * K * P + k * P + n % P;
            float value = n < N ? rows[n * (K + 5) + k] : 0.0f;
            if (to == DType::F32)
              ASSERT_EQ(reinterpret_cast<float*>(out.data())[at], value);
            else
              ASSERT_EQ(out[at], testing::toBf16(value));
          }
      }
}

TEST(PackPanels, roundsTiesToEvenAndKeepsNan) {
  std::vector<float> x = {1.00390625f,
                          1.01171875f,
                          -1.00390625f,
                          std::numeric_limits<float>::infinity(),
                          std::bit_cast<float>(0x7F800001u),
                          3.4e38f};
  std::vector<uint16_t> out(64 * 6);
  packPanels({x.data(), DType::F32, 6, 1, 6, out.data(), DType::BF16, 0, 1});
  EXPECT_EQ(out[0], 0x3F80);
  EXPECT_EQ(out[64], 0x3F82);
  EXPECT_EQ(out[128], 0xBF80);
  EXPECT_EQ(out[192], 0x7F80);
  EXPECT_TRUE(std::isnan(testing::fromBf16(out[256])));
  EXPECT_EQ(out[320], 0x7F80);
}

} // namespace
} // namespace llmrt
