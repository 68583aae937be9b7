// SPDX-License-Identifier: Apache-2.0
// embedding, rope, rope_table, kv_append, rope_append, select_rows and unstack
// on CUDA against the cpu kernels; what moves bytes agrees to the bit.
#include "tests/kernels/cuda/CudaKernelCase.h"
#include "tests/kernels/cuda/CudaPages.h"

#include <numeric>

namespace llmrt {
namespace {

using testing::Guarded;
using testing::sameBits;

TEST(CudaEmbedding, isTheCpuKernels) {
  const int64_t V = 70, vocabBegin = 100;
  std::vector<int32_t> ids = {100, 169, 170, 99, 133, 0, -1, 120};
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t C : {37, 64, 1032}) {
      std::vector<float> table = testing::randomFloats(V * C, 1);
      std::vector<uint16_t> narrow = testing::narrowed(table);
      EmbeddingArgs a = {7, // of 8 rows
                         ids.data(),
                         dtype == DType::F32
                             ? static_cast<const void*>(table.data())
                             : narrow.data(),
                         nullptr,
                         C,
                         vocabBegin,
                         V,
                         static_cast<int64_t>(dtype),
                         static_cast<int64_t>(WeightLayout::RowMajor)};
      Guarded<float> cpu(8 * C), cuda(8 * C);
      a.out = cpu.data();
      testing::runCpu("embedding", a, 7, C);
      a.out = cuda.data();
      testing::runCuda("embedding", a, 8, C);
      EXPECT_TRUE(sameBits(cpu.values(), cuda.values())) << C;
      EXPECT_TRUE(cuda.guardsHold());
    }
}

std::vector<float> ropeTable(int64_t positions, int64_t rotary) {
  std::vector<float> table(positions * rotary);
  RopeTableArgs a = {positions, table.data(), rotary, 10000.0, 0, 0, 0, 0, 0};
  testing::runCpu("rope_table", a, positions, rotary);
  return table;
}

TEST(CudaRopeTable, plainLinearAndLlama3) {
  for (int64_t kind : {0, 1, 2}) {
    Guarded<float> cpu(130 * 48), cuda(130 * 48);
    RopeTableArgs a = {130, cpu.data(), 48,  500000.0, kind,
                       8.0, 1.0,        4.0, 64.0};
    testing::runCpu("rope_table", a, 130, 48);
    a.table = cuda.data();
    testing::runCuda("rope_table", a, 130, 48);
    EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()),
              testing::kF32Error);
    EXPECT_TRUE(cuda.guardsHold());
  }
}

TEST(CudaRope, bothStylesPartsAndDirections) {
  const int64_t D = 21, heads = 6, ldx = heads * D + 2, ldo = heads * D + 5;
  std::vector<int32_t> positions = {0, 5, 17, -1, 4};
  std::vector<float> x = testing::randomFloats(5 * ldx, 2);
  for (int64_t style : {0, 1})
    for (int64_t inverse : {0, 1})
      for (int64_t rotary : {10, 20}) {
        std::vector<float> table = ropeTable(18, rotary);
        Guarded<float> cpu(5 * ldo), cuda(5 * ldo);
        RopeArgs a = {
            4, // of 5 rows
            x.data(), positions.data(), table.data(), cpu.data(), heads,
            D,        rotary,           style,        ldx,        ldo,
            inverse};
        testing::runCpu("rope", a, 4, heads);
        a.out = cuda.data();
        testing::runCuda("rope", a, 5, heads);
        EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()),
                  testing::kF32Error);
        EXPECT_TRUE(cuda.guardsHold());
        // In place.
        Guarded<float> same(x);
        a.x = a.out = same.data();
        a.ldo = ldx;
        testing::runCuda("rope", a, 5, heads);
        for (int64_t h = 0; h < heads * D; ++h)
          EXPECT_EQ(same[h], cuda[h]);
      }
}

/// Two sequences of three rows whose pages lie in disorder.
struct Cache {
  int64_t KV, D, pages = 3;
  std::vector<int32_t> positions = {62, 63, 64, 5, -1, 130};
  std::vector<int32_t> blockTable = {4, 0, 2, 5, 1, 3};

  int64_t elements() const { return 6 * KV * kPageTokens * D; }
};

template <typename T>
void expectKvAppend(DType dtype, int64_t kind, int64_t D) {
  Cache cache{5, D};
  const int64_t ldx = cache.KV * cache.D + 4;
  std::vector<float> x = testing::randomFloats(6 * ldx, 3);
  Guarded<T> cpu(cache.elements()), cuda(cache.elements());
  KvAppendArgs a = {6,
                    x.data(),
                    cache.positions.data(),
                    cache.blockTable.data(),
                    cpu.data(),
                    3,
                    cache.KV,
                    cache.D,
                    cache.pages,
                    static_cast<int64_t>(dtype),
                    kind,
                    ldx};
  testing::runCpu("kv_append", a, 6, cache.KV);
  a.cache = cuda.data();
  testing::runCuda("kv_append", a, 6, cache.KV);
  EXPECT_TRUE(sameBits(testing::pagesOnCuda(cpu.values(), D, kind == 0),
                       cuda.values()));
  EXPECT_TRUE(cuda.guardsHold());
}

TEST(CudaKvAppend, isTheCpuKernelsInItsOwnPages) {
  for (int64_t kind : {0, 1})
    for (int64_t D : {20, 64, 96, 192}) {
      expectKvAppend<float>(DType::F32, kind, D);
      expectKvAppend<uint16_t>(DType::BF16, kind, D);
    }
}

template <typename T>
void expectRopeAppend(DType dtype, int64_t style, int64_t D) {
  Cache cache{3, D};
  const int64_t H = 7, ld = H * cache.D + 1;
  std::vector<float> q = testing::randomFloats(6 * ld, 4);
  std::vector<float> k = testing::randomFloats(6 * ld, 5);
  std::vector<float> v = testing::randomFloats(6 * ld, 6);
  std::vector<float> table = ropeTable(140, 16);
  Guarded<float> cpuQ(6 * ld), cudaQ(6 * ld);
  Guarded<T> cpuKeys(cache.elements()), cpuValues(cache.elements());
  Guarded<T> cudaKeys(cache.elements()), cudaValues(cache.elements());
  RopeAppendArgs a = {};
  a.rows = 6;
  a.q = q.data();
  a.k = k.data();
  a.v = v.data();
  a.positions = cache.positions.data();
  a.table = table.data();
  a.blockTable = cache.blockTable.data();
  a.qOut = cpuQ.data();
  a.keyCache = cpuKeys.data();
  a.valueCache = cpuValues.data();
  a.R = 3;
  a.H = H;
  a.KV = cache.KV;
  a.D = cache.D;
  a.rotary = 16;
  a.style = style;
  a.pages = cache.pages;
  a.dtype = static_cast<int64_t>(dtype);
  a.ldq = a.ldk = a.ldv = a.ldo = ld;
  testing::runCpu("rope_append", a, 6, H + cache.KV);
  a.qOut = cudaQ.data();
  a.keyCache = cudaKeys.data();
  a.valueCache = cudaValues.data();
  testing::runCuda("rope_append", a, 6, H + cache.KV);
  EXPECT_LT(testing::relativeError(cudaQ.values(), cpuQ.values()),
            testing::kF32Error);
  EXPECT_TRUE(sameBits(testing::pagesOnCuda(cpuValues.values(), D, false),
                       cudaValues.values()));
  auto wide = [](const std::vector<T>& values) {
    std::vector<float> out;
    for (T x : values)
      if constexpr (sizeof(T) == 2)
        out.push_back(testing::fromBf16(x));
      else
        out.push_back(x);
    return out;
  };
  // A turned key may lie on either side of a rounding to bf16.
  EXPECT_LT(testing::relativeError(
                wide(cudaKeys.values()),
                wide(testing::pagesOnCuda(cpuKeys.values(), D, true))),
            dtype == DType::F32 ? testing::kF32Error : 1e-4);
  EXPECT_TRUE(cudaKeys.guardsHold() && cudaValues.guardsHold() &&
              cudaQ.guardsHold());
}

TEST(CudaRopeAppend, isTheCpuKernelsInItsOwnPages) {
  for (int64_t style : {0, 1})
    for (int64_t D : {24, 128}) {
      expectRopeAppend<float>(DType::F32, style, D);
      expectRopeAppend<uint16_t>(DType::BF16, style, D);
    }
}

TEST(CudaSelectRows, takesTheLastValidRow) {
  const int64_t S = 3, R = 4, C = 300;
  std::vector<float> x = testing::randomFloats(S * R * C, 7);
  std::vector<int32_t> validRows = {4, 0, 2};
  Guarded<float> cpu(S * C), cuda(S * C);
  SelectRowsArgs a = {S, x.data(), validRows.data(), cpu.data(), R, C};
  testing::runCpu("select_rows", a, S, C);
  a.out = cuda.data();
  testing::runCuda("select_rows", a, S, C);
  EXPECT_TRUE(sameBits(cpu.values(), cuda.values()));
  EXPECT_TRUE(cuda.guardsHold());
}

TEST(CudaUnstack, joinsPartsAndDropsPadding) {
  const int64_t T = 3, Cl = 40, C = 110, rowStride = 6;
  std::vector<float> in = testing::randomFloats(T * rowStride * Cl, 8);
  Guarded<float> cpu(6 * C), cuda(6 * C);
  UnstackArgs a = {5, in.data(), cpu.data(), T, Cl, C, rowStride};
  testing::runCpu("unstack", a, 5, C);
  a.out = cuda.data();
  testing::runCuda("unstack", a, 6, C);
  EXPECT_TRUE(sameBits(cpu.values(), cuda.values()));
  EXPECT_TRUE(cuda.guardsHold());
}

} // namespace
} // namespace llmrt
