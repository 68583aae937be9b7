// SPDX-License-Identifier: Apache-2.0
// Kernels with weights in blocks against the cpu kernels on what the GGUF
// reader makes of the same blocks.
#include "runtime/io/Dequantize.h"
#include "runtime/kernels/cuda/FusedProductArgs.h"
#include "runtime/plan/KernelSignatures.h"
#include "tests/kernels/cuda/CudaKernelCase.h"

#include <random>

namespace llmrt {
namespace {

using testing::Guarded;

using Floats = std::vector<float>;

/// Random blocks as a file has them, a factor before the elements of each; and
/// as the kernel wants them, all factors behind all elements.
struct Blocks {
  SourceTensor file;
  std::vector<uint8_t> fileBytes;
  std::vector<uint64_t> memory; // aligned

  Blocks(SourceType type, int64_t N, int64_t K, int seed) {
    std::mt19937 random(seed);
    const int64_t elementBytes = type == SourceType::Q8_0 ? 32 : 16;
    const int64_t count = N * K / kBlockElements;
    std::vector<uint8_t> elements, factors;
    for (int64_t b = 0; b < count; ++b) {
      // Halves from 2^-12 to 2^-5 of either sign, and one that is subnormal.
      const uint16_t factor =
          b == 1 ? 0x0123 : static_cast<uint16_t>((random() & 0x9FFF) | 0x0C00);
      for (int shift : {0, 8}) {
        fileBytes.push_back(static_cast<uint8_t>(factor >> shift));
        factors.push_back(static_cast<uint8_t>(factor >> shift));
      }
      for (int64_t i = 0; i < elementBytes; ++i) {
        elements.push_back(static_cast<uint8_t>(random()));
        fileBytes.push_back(elements.back());
      }
    }
    elements.insert(elements.end(), factors.begin(), factors.end());
    memory.resize(elements.size() / 8 + 3);
    std::memcpy(data(), elements.data(), elements.size());
    file = {"w", type, {N, K}, fileBytes};
  }

  /// At a multiple of 16 bytes.
  uint8_t* data() {
    auto address = reinterpret_cast<uintptr_t>(memory.data());
    return reinterpret_cast<uint8_t*>((address + 15) / 16 * 16);
  }

  Floats values() const {
    Floats out(file.numElements());
    EXPECT_TRUE(readElements(file, 0, file.numElements(), out.data()).ok());
    return out;
  }
};

Floats productOnCpu(const Floats& x, int64_t rows, int64_t K, const Floats& w,
                    int64_t N) {
  Floats out(rows * N);
  LinearArgs a = {};
  a.rows = rows;
  a.x = x.data();
  a.ldx = a.K = K;
  a.dtype = static_cast<int64_t>(DType::F32);
  a.layout = static_cast<int64_t>(WeightLayout::RowMajor);
  a.count = 1;
  a.weights[0] = {w.data(), out.data(), N, N, nullptr, nullptr};
  testing::runCpu("linear", a, rows, (N + 31) / 32 * 32);
  return out;
}

WeightFormat formatOf(SourceType type) {
  return type == SourceType::Q8_0 ? WeightFormat::Q8_0 : WeightFormat::Q4_0;
}

FusedLinearArgs wordsOf(SourceType type, Floats& x, int64_t rows, int64_t K,
                        int64_t N, Blocks& w, float* y) {
  FusedLinearArgs a = {};
  a.in.rows = rows;
  a.in.x = x.data();
  a.in.ldx = a.in.K = K;
  a.in.dtype = static_cast<int64_t>(formatOf(type));
  a.N = N;
  a.count = 1;
  a.w0 = w.data();
  a.y = y;
  a.ldy = N;
  return a;
}

void expectProduct(SourceType type, int64_t rows, int64_t K, int64_t N) {
  SCOPED_TRACE(::testing::Message() << sourceTypeInfo(type).name << " " << rows
                                    << " rows, K " << K << ", N " << N);
  Floats x = testing::randomFloats(rows * K, 1);
  Blocks w(type, N, K, 2);
  Guarded<float> y(rows * N);
  FusedLinearArgs a = wordsOf(type, x, rows, K, N, w, y.data());
  testing::runCuda("fused_linear", a, rows, N);
  EXPECT_LT(testing::relativeError(y.values(),
                                   productOnCpu(x, rows, K, w.values(), N)),
            testing::kF32Error);
  EXPECT_TRUE(y.guardsHold());
}

TEST(CudaQuantized, isTheProductOfTheReadersValues) {
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0}) {
    for (int64_t rows : {1, 2, 3, 4, 7, 8, 16})
      expectProduct(type, rows, 160, 21);
    expectProduct(type, 1, 4128, 9);
    expectProduct(type, 5, 2048, 6);
  }
}

TEST(CudaQuantized, hasNormGateAndResidualAroundIt) {
  const int64_t rows = 2, K = 96, N = 11;
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0}) {
    Floats x = testing::randomFloats(rows * K, 3), weight(K, 0.5f);
    Floats residual = testing::randomFloats(rows * N, 4), normed = x;
    for (int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (int64_t k = 0; k < K; ++k)
        squares += double{x[r * K + k]} * x[r * K + k] / K;
      for (int64_t k = 0; k < K; ++k)
        normed[r * K + k] = x[r * K + k] / std::sqrt(squares + 1e-5) * 1.5;
    }
    Blocks gate(type, N, K, 5), up(type, N, K, 6);
    Floats expected = productOnCpu(normed, rows, K, gate.values(), N);
    const Floats partner = productOnCpu(normed, rows, K, up.values(), N);
    for (size_t i = 0; i < expected.size(); ++i)
      expected[i] =
          expected[i] / (1 + std::exp(-expected[i])) * partner[i] + residual[i];
    Guarded<float> y(rows * N);
    FusedLinearArgs a = wordsOf(type, x, rows, K, N, gate, y.data());
    a.in.norm = static_cast<int64_t>(InputNorm::RootMeanSquare);
    a.in.normWeight = weight.data();
    a.in.eps = 1e-5;
    a.in.offset = 1.0;
    a.count = 2;
    a.w1 = up.data();
    a.activation = 1;
    a.residual = residual.data();
    a.ldr = N;
    testing::runCuda("fused_linear", a, rows, N);
    EXPECT_LT(testing::relativeError(y.values(), expected),
              2 * testing::kF32Error);
    EXPECT_TRUE(y.guardsHold());
  }
}

// ---- many rows ----

TEST(CudaQuantized, hasTheWordsOfKernelsDef) {
  const KernelSignature* kernel = findKernelSignature("linear_quantized", 1);
  ASSERT_NE(kernel, nullptr);
  EXPECT_EQ(kernel->words.size() * 8, sizeof(LinearQuantizedArgs));
  EXPECT_TRUE(kernel->hasCudaForm);
  EXPECT_FALSE(kernel->hasCpuForm);
}

LinearQuantizedArgs manyRowsWords(SourceType type, DType compute, Floats& x,
                                  int64_t rows, int64_t K, int64_t N, Blocks& w,
                                  float* y) {
  LinearQuantizedArgs a = {};
  a.rows = rows;
  a.x = x.data();
  a.ldx = a.K = K;
  a.dtype = static_cast<int64_t>(formatOf(type));
  a.compute = static_cast<int64_t>(compute);
  a.N = N;
  a.w = w.data();
  a.y = y;
  a.ldy = N;
  return a;
}

void expectManyRows(SourceType type, DType compute, int64_t rows, int64_t K,
                    int64_t N) {
  SCOPED_TRACE(::testing::Message()
               << sourceTypeInfo(type).name << " " << rows << " rows, K " << K
               << ", N " << N << " in " << static_cast<int>(compute));
  Floats x = testing::randomFloats(rows * K, 1);
  Blocks w(type, N, K, 2);
  Guarded<float> y(rows * N);
  LinearQuantizedArgs a =
      manyRowsWords(type, compute, x, rows, K, N, w, y.data());
  testing::runCuda("linear_quantized", a, rows, N);
  EXPECT_LT(testing::relativeError(y.values(),
                                   productOnCpu(x, rows, K, w.values(), N)),
            compute == DType::F32 ? testing::kF32Error : testing::kBf16Error);
  EXPECT_TRUE(y.guardsHold());
}

TEST(CudaQuantized, multipliesManyRows) {
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0})
    for (DType compute : {DType::F32, DType::BF16}) {
      expectManyRows(type, compute, 1, 32, 5);
      expectManyRows(type, compute, 17, 96, 21);
      expectManyRows(type, compute, 130, 64, 131);
      expectManyRows(type, compute, 40, 544, 64);
    }
}

TEST(CudaQuantized, leavesInvalidRowsOfManyAlone) {
  const int64_t rows = 140, valid = 19, K = 64, N = 33;
  for (DType compute : {DType::F32, DType::BF16}) {
    Floats x = testing::randomFloats(rows * K, 1);
    Blocks w(SourceType::Q4_0, N, K, 2);
    Guarded<float> y(rows * N);
    LinearQuantizedArgs a =
        manyRowsWords(SourceType::Q4_0, compute, x, valid, K, N, w, y.data());
    testing::runCuda("linear_quantized", a, rows, N);
    for (int64_t i = valid * N; i < rows * N; ++i)
      EXPECT_TRUE(std::isnan(y.values()[i])) << i;
  }
}

// ---- queries, keys and values; tables ----

/// What linear_rope_append leaves of rows with weights of one format.
struct Appended {
  Guarded<float> q, keys, values;
};

TEST(CudaQuantized, appendsAsTheReadersValuesDo) {
  const int64_t K = 96, H = 5, KV = 2, D = 20, rows16 = 16;
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0})
    for (int64_t rows : {1, 2, 3, 7, 16})
      for (bool hasNorm : {false, true}) {
        SCOPED_TRACE(::testing::Message() << sourceTypeInfo(type).name << " "
                                          << rows << " rows " << hasNorm);
        Floats x = testing::randomFloats(rows * K, 1), norm(K, 0.5f);
        Floats bias = testing::randomFloats(H * D, 2);
        Floats headNorm = testing::randomFloats(D, 3);
        Floats table = testing::randomFloats(64 * D, 4);
        Blocks w0(type, H * D, K, 5), w1(type, KV * D, K, 6),
            w2(type, KV * D, K, 7);
        const Floats wide0 = w0.values(), wide1 = w1.values(),
                     wide2 = w2.values();
        std::vector<int32_t> positions(rows), blockTable(rows16);
        for (int64_t r = 0; r < rows; ++r) {
          positions[r] = static_cast<int32_t>(r * 5 % 60);
          blockTable[r] = static_cast<int32_t>(rows - 1 - r);
        }
        auto run = [&](bool isWide, Appended& out) {
          LinearRopeAppendArgs a = {};
          a.in.rows = rows;
          a.in.x = x.data();
          a.in.ldx = a.in.K = K;
          a.in.norm = static_cast<int64_t>(InputNorm::RootMeanSquare);
          a.in.normWeight = norm.data();
          a.in.eps = 1e-5;
          a.in.dtype =
              static_cast<int64_t>(isWide ? WeightFormat::F32 : formatOf(type));
          a.w0 = isWide ? static_cast<const void*>(wide0.data()) : w0.data();
          a.w1 = isWide ? static_cast<const void*>(wide1.data()) : w1.data();
          a.w2 = isWide ? static_cast<const void*>(wide2.data()) : w2.data();
          a.bias0 = bias.data();
          a.headNormQ = hasNorm ? headNorm.data() : nullptr;
          a.headNormK = hasNorm ? headNorm.data() : nullptr;
          a.headEps = 1e-2;
          a.positions = positions.data();
          a.table = table.data();
          a.blockTable = blockTable.data();
          a.qOut = out.q.data();
          a.ldo = H * D;
          a.keyCache = out.keys.data();
          a.valueCache = out.values.data();
          a.R = 1;
          a.H = H;
          a.KV = KV;
          a.D = D;
          a.rotary = D;
          a.pages = 1;
          a.cacheDtype = static_cast<int64_t>(DType::F32);
          testing::runCuda("linear_rope_append", a, rows, H + 2 * KV);
        };
        const int64_t cache = rows * KV * kPageTokens * D;
        Appended wide{Guarded<float>(rows * H * D), Guarded<float>(cache),
                      Guarded<float>(cache)};
        Appended blocks{Guarded<float>(rows * H * D), Guarded<float>(cache),
                        Guarded<float>(cache)};
        run(true, wide);
        run(false, blocks);
        for (auto part : {&Appended::q, &Appended::keys, &Appended::values}) {
          EXPECT_LT(testing::relativeError((blocks.*part).values(),
                                           (wide.*part).values()),
                    testing::kF32Error);
          EXPECT_TRUE((blocks.*part).guardsHold());
        }
      }
}

TEST(CudaQuantized, looksRowsOfATableUp) {
  const int64_t V = 11, C = 96;
  Blocks table(SourceType::Q8_0, V, C, 3);
  const Floats values = table.values();
  std::vector<int32_t> ids = {3, 20, 9, 30, 13, -1};
  Guarded<float> out(ids.size() * C);
  EmbeddingArgs a = {};
  a.rows = static_cast<int64_t>(ids.size());
  a.ids = ids.data();
  a.table = table.data();
  a.out = out.data();
  a.C = C;
  a.vocabBegin = 3;
  a.vocabCount = V;
  a.dtype = static_cast<int64_t>(WeightFormat::Q8_0);
  testing::runCuda("embedding", a, a.rows, C);
  for (size_t r = 0; r < ids.size(); ++r)
    for (int64_t c = 0; c < C; ++c) {
      const int64_t id = ids[r] - 3;
      EXPECT_EQ(out.values()[r * C + c],
                id >= 0 && id < V ? values[id * C + c] : 0.0f);
    }
  EXPECT_TRUE(out.guardsHold());
}

TEST(CudaQuantized, refusesPartsOfBlocksAndUnknownFormats) {
  Floats x(48), y(8);
  Blocks w(SourceType::Q8_0, 8, 64, 1);
  FusedLinearArgs a = wordsOf(SourceType::Q8_0, x, 1, 48, 8, w, y.data());
  auto refusal = [&] {
    return testing::runCudaKernel("fused_linear",
                                  reinterpret_cast<const uint64_t*>(&a), 1, 8);
  };
  EXPECT_THAT(refusal(), ::testing::HasSubstr("whole blocks"));
  a.in.dtype = static_cast<int64_t>(DType::F16);
  EXPECT_THAT(refusal(), ::testing::HasSubstr("no weights of type 3"));
  LinearQuantizedArgs many =
      manyRowsWords(SourceType::Q8_0, DType::F32, x, 1, 48, 8, w, y.data());
  auto refusalOfMany = [&] {
    return testing::runCudaKernel(
        "linear_quantized", reinterpret_cast<const uint64_t*>(&many), 1, 8);
  };
  EXPECT_THAT(refusalOfMany(), ::testing::HasSubstr("whole blocks"));
  many.dtype = static_cast<int64_t>(DType::BF16);
  EXPECT_THAT(refusalOfMany(), ::testing::HasSubstr("no blocks of type 1"));
}

} // namespace
} // namespace llmrt
