// SPDX-License-Identifier: Apache-2.0
// fused_linear with weights in blocks against the cpu kernel `linear` on what
// the GGUF reader makes of the same blocks.
#include "runtime/io/Dequantize.h"
#include "runtime/kernels/cuda/FusedProductArgs.h"
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

FusedLinearArgs wordsOf(SourceType type, Floats& x, int64_t rows, int64_t K,
                        int64_t N, Blocks& w, float* y) {
  FusedLinearArgs a = {};
  a.in.rows = rows;
  a.in.x = x.data();
  a.in.ldx = a.in.K = K;
  a.in.dtype = static_cast<int64_t>(
      type == SourceType::Q8_0 ? WeightFormat::Q8_0 : WeightFormat::Q4_0);
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
}

} // namespace
} // namespace llmrt
