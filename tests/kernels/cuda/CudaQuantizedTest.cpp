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
    for (int64_t rows = 1; rows <= 16; ++rows)
      expectProduct(type, rows, 160, 21);
    expectProduct(type, 1, 4128, 9);
    for (int64_t rows : {2, 9})
      for (int64_t K : {32, 96, 1056, 2048})
        expectProduct(type, rows, K, 6);
  }
}

// A block takes 32 weights of so many.
TEST(CudaQuantized, multipliesWideWeights) {
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0}) {
    expectProduct(type, 3, 288, 4099);
    expectProduct(type, 11, 96, 4096);
  }
}

TEST(CudaQuantized, choosesAFormByRowsAndWeights) {
  const std::string name = "fused_linear_quantized_";
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0})
    for (int64_t N : {4095, 4096}) {
      Floats x(32);
      Blocks w(type, 1, 32, 1);
      const FusedLinearArgs a = wordsOf(type, x, 1, 32, N, w, nullptr);
      for (int64_t rows = 1; rows <= 16; ++rows) {
        auto shape = cudaLaunchShape(*findCudaKernel("fused_linear"),
                                     reinterpret_cast<const uint64_t*>(&a),
                                     rows, N, CudaFeatures{});
        ASSERT_TRUE(shape.ok()) << shape.status();
        EXPECT_EQ(shape->symbol, name + (rows == 1   ? "rows_1"
                                         : rows <= 8 ? "mma_8"
                                                     : "mma_16"));
        if (rows > 1) {
          EXPECT_EQ(shape->colTile, N < 4096 ? 16 : 32);
        }
      }
    }
}

// Every value that an element can have, at every place of a block, times one:
// nothing on its way may round it.
TEST(CudaQuantized, takesEveryElementExactly) {
  const int64_t rows = 16, N = 256;
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0}) {
    Blocks w(type, N, kBlockElements, 1);
    const int64_t blockBytes = type == SourceType::Q8_0 ? 32 : 16;
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < blockBytes; ++i)
        w.data()[n * blockBytes + i] = static_cast<uint8_t>(n + 37 * i);
    for (int64_t n = 0; n < N; ++n) { // one, as a half
      w.data()[N * blockBytes + 2 * n] = 0;
      w.data()[N * blockBytes + 2 * n + 1] = 0x3C;
    }
    for (int64_t first : {0, 16}) {
      Floats x(rows * kBlockElements, 0.0f);
      for (int64_t m = 0; m < rows; ++m)
        x[m * kBlockElements + first + m] = 1.0f;
      Guarded<float> y(rows * N);
      FusedLinearArgs a =
          wordsOf(type, x, rows, kBlockElements, N, w, y.data());
      testing::runCuda("fused_linear", a, rows, N);
      for (int64_t m = 0; m < rows; ++m)
        for (int64_t n = 0; n < N; ++n) {
          const int64_t k = first + m;
          const auto byte = static_cast<uint8_t>(n + 37 * (k % blockBytes));
          const int element = type == SourceType::Q8_0
                                  ? static_cast<int8_t>(byte)
                                  : (k < 16 ? byte & 15 : byte >> 4) - 8;
          ASSERT_EQ(y.values()[m * N + n], element) << k << " " << n;
        }
    }
  }
}

TEST(CudaQuantized, leavesInvalidRowsAlone) {
  const int64_t K = 96, N = 19;
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0})
    for (int64_t rows : {7, 16}) {
      const int64_t valid = rows - 5;
      Floats x = testing::randomFloats(rows * K, 1);
      Blocks w(type, N, K, 2);
      Guarded<float> y(rows * N);
      FusedLinearArgs a = wordsOf(type, x, valid, K, N, w, y.data());
      testing::runCuda("fused_linear", a, rows, N);
      const Floats expected = productOnCpu(x, valid, K, w.values(), N);
      Floats made = y.values();
      for (int64_t i = valid * N; i < rows * N; ++i)
        EXPECT_TRUE(std::isnan(made[i])) << i;
      made.resize(valid * N);
      EXPECT_LT(testing::relativeError(made, expected), testing::kF32Error);
    }
}

/// What surrounds a product of `fused_linear`.
struct Around {
  InputNorm norm = InputNorm::None;
  bool isGated = false;
  bool hasBias = false;
  bool hasPostNorm = false;
  bool hasResidual = false;
};

/// Compares with the same words and the blocks' values as f32 weights, which
/// CudaFusedProductsTest.cpp compares with plain loops.
void expectSurrounded(SourceType type, int64_t rows, int64_t K, int64_t N,
                      const Around& around) {
  SCOPED_TRACE(::testing::Message()
               << sourceTypeInfo(type).name << " " << rows << " rows, norm "
               << int(around.norm) << " gated " << around.isGated << " post "
               << around.hasPostNorm);
  Floats x = testing::randomFloats(rows * K, 3);
  Floats weight = testing::randomFloats(K, 4),
         bias = testing::randomFloats(K, 5);
  Floats bias0 = testing::randomFloats(N, 6),
         bias1 = testing::randomFloats(N, 7);
  Floats post = testing::randomFloats(N, 8);
  Floats residual = testing::randomFloats(rows * N, 9);
  Blocks gate(type, N, K, 10), up(type, N, K, 11);
  const Floats wideGate = gate.values(), wideUp = up.values();
  Guarded<float> wide(rows * N), blocks(rows * N);
  for (bool isWide : {true, false}) {
    FusedLinearArgs a = wordsOf(type, x, rows, K, N, gate,
                                isWide ? wide.data() : blocks.data());
    if (isWide) {
      a.in.dtype = static_cast<int64_t>(WeightFormat::F32);
      a.w0 = wideGate.data();
    }
    a.in.norm = static_cast<int64_t>(around.norm);
    a.in.normWeight = weight.data();
    a.in.normBias = bias.data();
    a.in.eps = 1e-5;
    a.count = around.isGated ? 2 : 1;
    a.bias0 = around.hasBias ? bias0.data() : nullptr;
    a.bias1 = around.hasBias ? bias1.data() : nullptr;
    if (around.isGated)
      a.w1 = isWide ? static_cast<const void*>(wideUp.data()) : up.data();
    a.activation = around.isGated ? 1 : 0;
    a.postWeight = around.hasPostNorm ? post.data() : nullptr;
    a.postEps = 1e-3;
    a.residual = around.hasResidual ? residual.data() : nullptr;
    a.ldr = N;
    testing::runCuda("fused_linear", a, rows, N);
  }
  EXPECT_LT(testing::relativeError(blocks.values(), wide.values()),
            2 * testing::kF32Error);
  EXPECT_TRUE(blocks.guardsHold());
}

TEST(CudaQuantized, hasNormGateBiasAndResidualAroundIt) {
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0}) {
    for (int64_t rows : {1, 2, 5, 8, 9, 16})
      for (InputNorm norm :
           {InputNorm::None, InputNorm::RootMeanSquare, InputNorm::Layer}) {
        expectSurrounded(type, rows, 96, 11, {.norm = norm});
        expectSurrounded(type, rows, 96, 21, {norm, true, true, false, true});
      }
    for (int64_t rows : {2, 16}) {
      expectSurrounded(type, rows, 96, 37, {.hasPostNorm = true});
      expectSurrounded(type, rows, 160, 50,
                       {InputNorm::RootMeanSquare, true, true, true, true});
      // 32 weights a block.
      expectSurrounded(type, rows, 64, 2051,
                       {InputNorm::Layer, true, true, false, true});
    }
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

struct Heads {
  int64_t H, KV, D;
  bool hasNorm;
};

void expectAppended(SourceType type, int64_t rows, const Heads& heads) {
  SCOPED_TRACE(::testing::Message() << sourceTypeInfo(type).name << " " << rows
                                    << " rows " << heads.hasNorm);
  const int64_t H = heads.H, KV = heads.KV, D = heads.D;
  const int64_t K = 96;
  Floats x = testing::randomFloats(rows * K, 1), norm(K, 0.5f);
  Floats bias = testing::randomFloats(H * D, 2);
  Floats headNorm = testing::randomFloats(D, 3);
  Floats table = testing::randomFloats(64 * D, 4);
  Blocks w0(type, H * D, K, 5), w1(type, KV * D, K, 6), w2(type, KV * D, K, 7);
  const Floats wide0 = w0.values(), wide1 = w1.values(), wide2 = w2.values();
  std::vector<int32_t> positions(rows), blockTable(rows);
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
    a.headNormQ = heads.hasNorm ? headNorm.data() : nullptr;
    a.headNormK = heads.hasNorm ? headNorm.data() : nullptr;
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
    EXPECT_LT(
        testing::relativeError((blocks.*part).values(), (wide.*part).values()),
        testing::kF32Error);
    EXPECT_TRUE((blocks.*part).guardsHold());
  }
}

TEST(CudaQuantized, appendsAsTheReadersValuesDo) {
  for (SourceType type : {SourceType::Q8_0, SourceType::Q4_0})
    for (bool hasNorm : {false, true}) {
      for (int64_t rows : {1, 2, 3, 8, 9, 16})
        expectAppended(type, rows, {5, 2, 20, hasNorm});
      // 32 weights a block, the last of a head not all of them.
      expectAppended(type, 2, {53, 2, 72, hasNorm});
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
