// SPDX-License-Identifier: Apache-2.0
// zero, add_to, square_sums, global_norm, adamw and cast_weight against plain
// loops: bit for bit where one operation after the other defines the result.
#include "tests/kernels/KernelRun.h"

#include "runtime/kernels/Pack.h"

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

const std::vector<Cut> kCuts = {{1}, {2}, {1, 1, 1}, {1, 3, 1}};

int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

TEST(Zero, clearsWholeAndShortBlocks) {
  for (CpuLevel level : testing::levels())
    for (int64_t sizeBytes : {1, 4096, 4097, 20000})
      for (Cut cut : kCuts) {
        Guarded<uint8_t> out(sizeBytes);
        ZeroArgs a = {divideUp(sizeBytes, 4096), out.data(), sizeBytes};
        testing::runKernel("zero", level, a, a.blocks, 1, cut);
        for (int64_t i = 0; i < sizeBytes; ++i)
          ASSERT_EQ(out[i], 0) << i;
        EXPECT_TRUE(out.guardsHold());
      }
}

TEST(AddTo, addsOnce) {
  for (CpuLevel level : testing::levels())
    for (int64_t elements : {1, 1024, 1025, 5000})
      for (Cut cut : kCuts) {
        std::vector<float> x = testing::randomFloats(elements, 1);
        std::vector<float> y = testing::randomFloats(elements, 2);
        Guarded<float> out(y);
        AddToArgs a = {divideUp(elements, 1024), out.data(), x.data(),
                       elements};
        testing::runKernel("add_to", level, a, a.blocks, 1, cut);
        for (int64_t i = 0; i < elements; ++i)
          ASSERT_EQ(out[i], y[i] + x[i]);
        EXPECT_TRUE(out.guardsHold());
      }
}

TEST(SquareSums, sumsBlocksTheSameAtEveryLevel) {
  for (auto [elements, block] : {std::pair<int64_t, int64_t>{1, 1},
                                 {1000, 96},
                                 {96 * 20, 96},
                                 {77, 1000},
                                 {5000, 37}}) {
    std::vector<float> x = testing::randomFloats(elements, 1);
    const int64_t blocks = divideUp(elements, block);
    std::vector<double> first;
    for (CpuLevel level : testing::levels())
      for (Cut cut : kCuts) {
        Guarded<double> out(blocks);
        SquareSumsArgs a = {blocks, x.data(), out.data(), block, elements};
        testing::runKernel("square_sums", level, a, blocks, 1, cut);
        for (int64_t b = 0; b < blocks; ++b) {
          long double sum = 0;
          for (int64_t i = b * block; i < std::min(elements, (b + 1) * block);
               ++i)
            sum += static_cast<long double>(x[i]) * x[i];
          // At most `block` additions of positive terms, in any order.
          ASSERT_NEAR(out[b], double(sum), block * 0x1p-53 * double(sum));
        }
        if (first.empty())
          first = out.values();
        EXPECT_TRUE(testing::sameBits(first, out.values()));
        EXPECT_TRUE(out.guardsHold());
      }
  }
}

// The tree by recursion: the largest power of two below count goes left.
double sumTree(const double* x, int64_t count) {
  if (count == 1)
    return x[0];
  int64_t left = 1;
  while (left * 2 < count)
    left *= 2;
  return sumTree(x, left) + sumTree(x + left, count - left);
}

TEST(GlobalNorm, addsByATreeAndClips) {
  std::vector<float> hyper(16, 0.0f);
  for (CpuLevel level : testing::levels())
    for (int64_t count : {1, 2, 3, 7, 64, 1000, 1023})
      for (float clip : {0.0f, 1.0f, 1e6f}) {
        std::vector<double> blocks;
        for (float v : testing::randomFloats(count, 1))
          blocks.push_back(double{v} * v * 1.1);
        hyper[7] = clip;
        Guarded<float> out(4);
        GlobalNormArgs a = {1, blocks.data(), count, hyper.data(), out.data()};
        testing::runKernel("global_norm", level, a, 1, 1);
        float norm =
            static_cast<float>(std::sqrt(sumTree(blocks.data(), count)));
        EXPECT_EQ(out[0], norm);
        EXPECT_EQ(out[1],
                  clip > 0 ? std::min(1.0f, clip / (norm + 1e-6f)) : 1.0f);
        EXPECT_EQ(out[2], 1.0f);
        EXPECT_EQ(out[3], 0.0f);
        EXPECT_TRUE(out.guardsHold());
        for (double bad : {double(NAN), double(INFINITY), 1e300}) {
          blocks[count / 2] = bad;
          testing::runKernel("global_norm", level, a, 1, 1);
          EXPECT_EQ(out[1], 0.0f);
          EXPECT_EQ(out[2], 0.0f) << bad;
          blocks[count / 2] = 1.0;
        }
        blocks.assign(count, 0.0);
        testing::runKernel("global_norm", level, a, 1, 1);
        EXPECT_EQ(out[0], 0.0f);
        EXPECT_EQ(out[1], 1.0f);
      }
}

TEST(Adamw, updatesAsTheFormulaSays) {
  for (int64_t elements : {1, 70, 1000})
    for (int64_t decay : {0, 1})
      for (bool given : {false, true}) {
        std::vector<float> p = testing::randomFloats(elements, 1);
        std::vector<float> g = testing::randomFloats(elements, 2);
        std::vector<float> m = testing::randomFloats(elements, 3, 0.1f);
        std::vector<float> v = testing::randomFloats(elements, 4, 0.1f);
        for (float& x : v)
          x = x * x;
        std::vector<float> norm = {3.0f, 0.4f, 1.0f, 0.0f};
        const double b1 = 0.9, b2 = 0.999, c1 = 1 - b1 * b1, c2 = 1 - b2 * b2;
        std::vector<float> hyper(16, 0.0f);
        hyper[0] = 1e-3f;
        hyper[1] = static_cast<float>(b1);
        hyper[2] = static_cast<float>(b2);
        hyper[3] = 1e-8f;
        hyper[4] = 0.1f;
        hyper[5] = static_cast<float>(c1);
        hyper[6] = static_cast<float>(c2);
        hyper[10] = given ? static_cast<float>(1 - b1) : 0.0f;
        hyper[11] = given ? static_cast<float>(1 - b2) : 0.0f;
        const float rest1 = given ? hyper[10] : 1.0f - hyper[1];
        const float rest2 = given ? hyper[11] : 1.0f - hyper[2];
        const int64_t block = 96;
        for (CpuLevel level : testing::levels())
          for (Cut cut : kCuts) {
            Guarded<float> param(p), moment1(m), moment2(v);
            AdamwArgs a = {divideUp(elements, block),
                           param.data(),
                           g.data(),
                           moment1.data(),
                           moment2.data(),
                           norm.data(),
                           hyper.data(),
                           block,
                           elements,
                           decay};
            testing::runKernel("adamw", level, a, a.blocks, 1, cut);
            for (int64_t i = 0; i < elements; ++i) {
              float scaled = g[i] * norm[1];
              float first = hyper[1] * m[i] + rest1 * scaled;
              float second = hyper[2] * v[i] + rest2 * scaled * scaled;
              float kept = decay ? 1.0f - hyper[0] * hyper[4] : 1.0f;
              float step = first / (std::sqrt(second / hyper[6]) + hyper[3]);
              ASSERT_EQ(moment1[i], first);
              ASSERT_EQ(moment2[i], second);
              ASSERT_EQ(param[i], p[i] * kept - hyper[0] / hyper[5] * step);
              // And the same in double, where 1 - beta is not given in f32.
              double exact1 = b1 * m[i] + (1 - b1) * scaled;
              double exact2 = b2 * v[i] + (1 - b2) * scaled * scaled;
              double exact =
                  p[i] * (decay ? 1 - 1e-3 * 0.1 : 1.0) -
                  1e-3 / c1 * exact1 / (std::sqrt(exact2 / c2) + 1e-8);
              if (given) {
                ASSERT_NEAR(param[i], exact,
                            0x1p-24 * std::abs(p[i]) * 3 + 1e-7);
              }
            }
            EXPECT_TRUE(param.guardsHold() && moment1.guardsHold() &&
                        moment2.guardsHold());
            norm[2] = 0.0f;
            std::vector<float> before = param.values();
            testing::runKernel("adamw", level, a, a.blocks, 1, cut);
            EXPECT_TRUE(testing::sameBits(before, param.values()));
            norm[2] = 1.0f;
          }
      }
}

TEST(CastWeight, equalsPackingFromRows) {
  for (auto [N, K] : {std::pair<int64_t, int64_t>{1, 1},
                      {64, 20},
                      {90, 33},
                      {130, 7},
                      {200, 64}}) {
    std::vector<float> rows = testing::randomFloats(N * K, 1);
    std::vector<char> from(panelBytes(DType::F32, N, K));
    std::vector<char> expected(panelBytes(DType::BF16, N, K));
    packPanels({rows.data(), DType::F32, K, N, K, from.data(), DType::F32, 0,
                divideUp(N, 32)});
    packPanels({rows.data(), DType::F32, K, N, K, expected.data(), DType::BF16,
                0, divideUp(N, 64)});
    for (CpuLevel level : testing::levels())
      for (Cut cut : kCuts) {
        Guarded<uint16_t> panels(expected.size() / 2), flat(N * K);
        CastWeightArgs a = {divideUp(N, 64),
                            reinterpret_cast<const float*>(from.data()),
                            panels.data(),
                            N,
                            K,
                            static_cast<int64_t>(WeightLayout::Panel)};
        testing::runKernel("cast_weight", level, a, a.panels, 1, cut);
        EXPECT_EQ(std::memcmp(panels.data(), expected.data(), expected.size()),
                  0);
        a.panels = N;
        a.from = rows.data();
        a.to = flat.data();
        a.layout = static_cast<int64_t>(WeightLayout::RowMajor);
        testing::runKernel("cast_weight", level, a, N, 1, cut);
        for (int64_t i = 0; i < N * K; ++i)
          ASSERT_EQ(flat[i], testing::toBf16(rows[i]));
        EXPECT_TRUE(panels.guardsHold() && flat.guardsHold());
      }
  }
}

} // namespace
} // namespace llmrt
