// SPDX-License-Identifier: Apache-2.0
// embedding, rope, rope_table, kv_append, rope_append, select_rows, unstack and
// the registry, against plain loops.
#include "tests/kernels/KernelRun.h"

#include "runtime/kernels/Pack.h"

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

const std::vector<Cut> kCuts = {{1}, {2}, {1, 1, 1}, {1, 3, 2}};

TEST(KernelRegistry, describesEveryKernel) {
  EXPECT_EQ(findKernel("linear", 1), nullptr);
  EXPECT_EQ(findKernel("linea", 1), nullptr);
  const KernelInfo* linear = findKernel("linear", 2);
  ASSERT_NE(linear, nullptr);
  EXPECT_EQ(linear->colTile, 64);
  EXPECT_EQ(linear->args.size(), 31u);
  EXPECT_EQ(linear->args[1].name, "x");
  EXPECT_EQ(linear->args[1].type, KernelArgType::Address);
  EXPECT_EQ(linear->args[29].name, "prologueOut");
  for (auto [name, bytes] : {std::pair{"linear", sizeof(LinearArgs)},
                             {"embedding", sizeof(EmbeddingArgs)},
                             {"rope", sizeof(RopeArgs)},
                             {"kv_append", sizeof(KvAppendArgs)},
                             {"rope_append", sizeof(RopeAppendArgs)},
                             {"attention", sizeof(AttentionArgs)},
                             {"select_rows", sizeof(SelectRowsArgs)},
                             {"unstack", sizeof(UnstackArgs)},
                             {"sample", sizeof(SampleArgs)},
                             {"rope_table", sizeof(RopeTableArgs)}}) {
    ASSERT_NE(testing::newestKernel(name), nullptr) << name;
    EXPECT_EQ(testing::newestKernel(name)->args.size() * 8, bytes) << name;
  }
  EXPECT_EQ(findKernel("rope", 1), nullptr);
  EXPECT_EQ(findKernel("rope", 2)->args.back().name, "inverse");
  EXPECT_EQ(findKernel("attention", 1)->args[15].type, KernelArgType::Double);
}

TEST(KernelRegistry, environmentOnlyLowersTheLevel) {
  CpuLevel best = detectCpuLevel();
  setenv("LLMRT_CPU_LEVEL", "baseline", 1);
  EXPECT_EQ(detectCpuLevel(), CpuLevel::Baseline);
  setenv("LLMRT_CPU_LEVEL", "avx512", 1);
  EXPECT_EQ(detectCpuLevel(), best);
  setenv("LLMRT_CPU_LEVEL", "nonsense", 1);
  EXPECT_EQ(detectCpuLevel(), best);
  unsetenv("LLMRT_CPU_LEVEL");
}

TEST(Embedding, gathersItsPartOfTheVocabulary) {
  const int64_t V = 70, C = 37, vocabBegin = 100;
  std::vector<int32_t> ids = {100, 169, 170, 99, 133, 0, -1};
  std::vector<float> table = testing::randomFloats(V * C, 1);
  std::vector<uint16_t> narrow;
  for (float v : table)
    narrow.push_back(testing::toBf16(v));
  for (DType dtype : {DType::F32, DType::BF16})
    for (WeightLayout layout : {WeightLayout::RowMajor, WeightLayout::Panel}) {
      const void* source = dtype == DType::F32
                               ? static_cast<const void*>(table.data())
                               : narrow.data();
      std::vector<char> panels(panelBytes(dtype, V, C));
      packPanels({source, dtype, C, V, C, panels.data(), dtype, 0,
                  (V + panelCols(dtype) - 1) / panelCols(dtype)});
      if (layout == WeightLayout::Panel)
        source = panels.data();
      for (CpuLevel level : testing::levels())
        for (Cut cut : kCuts) {
          Guarded<float> out(ids.size() * C);
          EmbeddingArgs a = {static_cast<int64_t>(ids.size()),
                             ids.data(),
                             source,
                             out.data(),
                             C,
                             vocabBegin,
                             V,
                             static_cast<int64_t>(dtype),
                             static_cast<int64_t>(layout)};
          testing::runKernel("embedding", level, a, ids.size(), C, cut);
          for (size_t r = 0; r < ids.size(); ++r)
            for (int64_t c = 0; c < C; ++c) {
              int64_t id = ids[r] - vocabBegin;
              float expected = 0.0f;
              if (id >= 0 && id < V)
                expected = dtype == DType::F32
                               ? table[id * C + c]
                               : testing::fromBf16(narrow[id * C + c]);
              ASSERT_EQ(out[r * C + c], expected) << r << " " << c;
            }
          EXPECT_TRUE(out.guardsHold());
        }
    }
}

std::vector<float> ropeTable(int64_t positions, int64_t rotary, CpuLevel level,
                             Cut cut = {}) {
  Guarded<float> table(positions * rotary);
  RopeTableArgs a = {positions, table.data(), rotary, 10000.0, 0, 0, 0, 0, 0};
  testing::runKernel("rope_table", level, a, positions, rotary, cut);
  EXPECT_TRUE(table.guardsHold());
  return table.values();
}

TEST(RopeTable, plainLinearAndLlama3) {
  const int64_t positions = 300, rotary = 64;
  for (int64_t kind : {0, 1, 2}) {
    Guarded<float> table(positions * rotary);
    RopeTableArgs a = {positions, table.data(), rotary, 500000.0, kind,
                       8.0,       1.0,          4.0,    8192.0};
    testing::runKernel("rope_table", testing::levels().back(), a, positions,
                       rotary, {3});
    for (int64_t i = 0; i < rotary / 2; ++i) {
      long double f = powl(500000.0L, -2.0L * i / rotary);
      if (kind == 1)
        f /= 8;
      // As transformers' _compute_llama3_parameters, by wavelengths.
      long double wavelength = 2 * acosl(-1.0L) / f;
      long double smooth = (8192.0L / wavelength - 1.0L) / (4.0L - 1.0L);
      if (kind == 2 && wavelength > 8192.0L / 1.0L)
        f /= 8;
      else if (kind == 2 && wavelength >= 8192.0L / 4.0L)
        f = (1 - smooth) * f / 8 + smooth * f;
      for (int64_t p = 0; p < positions; ++p) {
        // One rounding to float, and the angle's own 2^-50.
        ASSERT_NEAR(table[p * rotary + i], cosl(p * f), 0x1p-24);
        ASSERT_NEAR(table[p * rotary + rotary / 2 + i], sinl(p * f), 0x1p-24);
      }
    }
  }
}

TEST(RopeTable, isTheSameAtEveryLevelAndCut) {
  auto expected = ropeTable(50, 24, CpuLevel::Baseline);
  for (CpuLevel level : testing::levels())
    for (Cut cut : {Cut{2}, Cut{1, 7, 24}})
      EXPECT_TRUE(testing::sameBits(expected, ropeTable(50, 24, level, cut)));
}

TEST(Rope, turnsPairsOfBothStyles) {
  const int64_t heads = 3, ldx = 3 * 21 + 2, ldo = 3 * 21 + 5, D = 21;
  std::vector<int32_t> positions = {0, 5, 17, -1, 4};
  std::vector<float> x = testing::randomFloats(5 * ldx, 2);
  for (CpuLevel level : testing::levels())
    for (int64_t style : {0, 1})
      for (auto [rotary, inverse] :
           {std::pair<int64_t, int64_t>{10, 0}, {20, 0}, {10, 1}})
        for (Cut cut : kCuts) {
          std::vector<float> table = ropeTable(18, rotary, level);
          Guarded<float> out(5 * ldo);
          RopeArgs a = {
              5,     x.data(), positions.data(), table.data(), out.data(),
              heads, D,        rotary,           style,        ldx,
              ldo,   inverse};
          testing::runKernel("rope", level, a, 5, heads, cut);
          for (int64_t r = 0; r < 5; ++r)
            for (int64_t h = 0; h < heads; ++h)
              for (int64_t d = 0; d < D; ++d) {
                const float* in = &x[r * ldx + h * D];
                double expected = in[d], size = std::abs(in[d]);
                if (d < rotary && positions[r] >= 0) {
                  int64_t i = style == 0 ? d % (rotary / 2) : d / 2;
                  bool second = style == 0 ? d >= rotary / 2 : d % 2 == 1;
                  double x0 = style == 0 ? in[i] : in[2 * i];
                  double x1 = style == 0 ? in[i + rotary / 2] : in[2 * i + 1];
                  double c = table[positions[r] * rotary + i];
                  double s = table[positions[r] * rotary + rotary / 2 + i];
                  s = inverse ? -s : s;
                  expected = second ? x1 * c + x0 * s : x0 * c - x1 * s;
                  size = std::abs(x0) + std::abs(x1);
                }
                // At most three roundings of terms no larger than |x0| + |x1|.
                ASSERT_NEAR(out[r * ldo + h * D + d], expected,
                            3 * 0x1p-24 * size);
              }
          EXPECT_TRUE(out.guardsHold());
        }
}

TEST(Rope, mayTurnInPlace) {
  std::vector<float> x = testing::randomFloats(4 * 32, 3);
  std::vector<int32_t> positions = {1, 2, 3, 4};
  for (CpuLevel level : testing::levels())
    for (int64_t style : {0, 1}) {
      std::vector<float> table = ropeTable(8, 16, level);
      Guarded<float> apart(4 * 32), inPlace(x);
      RopeArgs a = {4,
                    x.data(),
                    positions.data(),
                    table.data(),
                    apart.data(),
                    2,
                    16,
                    16,
                    style,
                    32,
                    32,
                    0};
      testing::runKernel("rope", level, a, 4, 2);
      a.x = a.out = inPlace.data();
      testing::runKernel("rope", level, a, 4, 2);
      EXPECT_TRUE(testing::sameBits(apart.values(), inPlace.values()));
    }
}

TEST(KvAppend, writesTheDocumentedPlacesOnly) {
  const int64_t S = 2, R = 5, KV = 3, D = 9, pages = 3, ldx = KV * D + 1;
  std::vector<int32_t> positions = {62, 63, 64, 65, -1, 130, -1, 7, 8, 127};
  std::vector<int32_t> blockTable = {4, 0, 2, 5, 1, 3};
  std::vector<float> x = testing::randomFloats(S * R * ldx, 4);
  for (CpuLevel level : testing::levels())
    for (int64_t kind : {0, 1})
      for (Cut cut : kCuts) {
        Guarded<float> wide(6 * KV * D * kPageTokens);
        Guarded<uint16_t> narrow(wide.count());
        std::vector<float> expected(wide.count(), Guarded<float>::poison());
        KvAppendArgs a = {S * R,
                          x.data(),
                          positions.data(),
                          blockTable.data(),
                          wide.data(),
                          R,
                          KV,
                          D,
                          pages,
                          static_cast<int64_t>(DType::F32),
                          kind,
                          ldx};
        testing::runKernel("kv_append", level, a, S * R, KV, cut);
        a.cache = narrow.data();
        a.dtype = static_cast<int64_t>(DType::BF16);
        testing::runKernel("kv_append", level, a, S * R, KV, cut);
        for (int64_t r = 0; r < S * R; ++r)
          for (int64_t h = 0; h < KV && positions[r] >= 0; ++h)
            for (int64_t d = 0; d < D; ++d) {
              int64_t page = blockTable[r / R * pages + positions[r] / 64];
              int64_t slot = positions[r] % 64;
              int64_t at = kind == 0 ? ((page * KV + h) * D + d) * 64 + slot
                                     : ((page * KV + h) * 64 + slot) * D + d;
              expected[at] = x[r * ldx + h * D + d];
            }
        EXPECT_TRUE(testing::sameBits(wide.values(), expected));
        for (int64_t i = 0; i < narrow.count(); ++i)
          ASSERT_EQ(narrow[i], std::isnan(expected[i])
                                   ? 0xFFFF
                                   : testing::toBf16(expected[i]));
        EXPECT_TRUE(wide.guardsHold() && narrow.guardsHold());
      }
}

TEST(RopeAppend, equalsTheKernelsApartBitForBit) {
  const int64_t S = 2, R = 70, H = 4, KV = 2, D = 24, pages = 3;
  std::vector<int32_t> positions(S * R, -1);
  for (int64_t r = 0; r < R; ++r)
    positions[r] = static_cast<int32_t>(r + 60);
  for (int64_t r = 0; r < 9; ++r)
    positions[R + r] = static_cast<int32_t>(2 * r);
  std::vector<int32_t> blockTable = {5, 3, 1, 0, 2, 4};
  std::vector<float> q = testing::randomFloats(S * R * H * D, 5);
  std::vector<float> k = testing::randomFloats(S * R * KV * D, 6);
  std::vector<float> v = testing::randomFloats(S * R * KV * D, 7);
  for (CpuLevel level : testing::levels())
    for (int64_t style : {0, 1}) {
      std::vector<float> table = ropeTable(192, 16, level);
      const int64_t cacheCount = 6 * KV * D * kPageTokens, bf16 = 1;
      Guarded<float> qOut(q.size()), kOut(k.size());
      Guarded<uint16_t> keys(cacheCount), values(cacheCount);
      RopeArgs rope = {S * R,
                       q.data(),
                       positions.data(),
                       table.data(),
                       qOut.data(),
                       H,
                       D,
                       16,
                       style,
                       H * D,
                       H * D,
                       0};
      testing::runKernel("rope", level, rope, S * R, H);
      rope.x = k.data();
      rope.out = kOut.data();
      rope.heads = KV;
      rope.ldx = rope.ldo = KV * D;
      testing::runKernel("rope", level, rope, S * R, KV);
      KvAppendArgs append = {S * R,
                             kOut.data(),
                             positions.data(),
                             blockTable.data(),
                             keys.data(),
                             R,
                             KV,
                             D,
                             pages,
                             bf16,
                             0,
                             KV * D};
      testing::runKernel("kv_append", level, append, S * R, KV);
      append.x = v.data();
      append.cache = values.data();
      append.kind = 1;
      testing::runKernel("kv_append", level, append, S * R, KV);
      for (Cut cut : {Cut{1}, Cut{2}, Cut{1, 1, 1}, Cut{1, 30, 4}}) {
        Guarded<float> qFused(q.size());
        Guarded<uint16_t> keysFused(cacheCount), valuesFused(cacheCount);
        RopeAppendArgs a = {S * R,
                            q.data(),
                            k.data(),
                            v.data(),
                            positions.data(),
                            table.data(),
                            blockTable.data(),
                            qFused.data(),
                            keysFused.data(),
                            valuesFused.data(),
                            R,
                            H,
                            KV,
                            D,
                            16,
                            style,
                            pages,
                            bf16,
                            H * D,
                            KV * D,
                            KV * D,
                            H * D};
        testing::runKernel("rope_append", level, a, S * R, H + KV, cut);
        EXPECT_TRUE(testing::sameBits(qOut.values(), qFused.values()));
        EXPECT_TRUE(testing::sameBits(keys.values(), keysFused.values()));
        EXPECT_TRUE(testing::sameBits(values.values(), valuesFused.values()));
        EXPECT_TRUE(qFused.guardsHold() && keysFused.guardsHold() &&
                    valuesFused.guardsHold());
      }
    }
}

TEST(SelectRows, takesTheLastValidRow) {
  const int64_t S = 4, R = 5, C = 11;
  std::vector<float> x = testing::randomFloats(S * R * C, 8);
  std::vector<int32_t> valid = {5, 1, 0, 3};
  for (CpuLevel level : testing::levels())
    for (Cut cut : kCuts) {
      Guarded<float> out(S * C);
      SelectRowsArgs a = {S, x.data(), valid.data(), out.data(), R, C};
      testing::runKernel("select_rows", level, a, S, C, cut);
      for (int64_t s = 0; s < S; ++s)
        for (int64_t c = 0; c < C; ++c)
          ASSERT_EQ(out[s * C + c],
                    x[(s * R + std::max(1, valid[s]) - 1) * C + c]);
      EXPECT_TRUE(out.guardsHold());
    }
}

TEST(Unstack, joinsColumnsAndDropsPadding) {
  const int64_t T = 3, Cl = 7, C = 19, rows = 4, rowStride = 6;
  std::vector<float> in = testing::randomFloats(T * rowStride * Cl, 9);
  for (CpuLevel level : testing::levels())
    for (Cut cut : kCuts) {
      Guarded<float> out(rows * C);
      UnstackArgs a = {rows, in.data(), out.data(), T, Cl, C, rowStride};
      testing::runKernel("unstack", level, a, rows, C, cut);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < C; ++c)
          ASSERT_EQ(out[r * C + c], in[(c / Cl * rowStride + r) * Cl + c % Cl]);
      EXPECT_TRUE(out.guardsHold());
    }
}

} // namespace
} // namespace llmrt
