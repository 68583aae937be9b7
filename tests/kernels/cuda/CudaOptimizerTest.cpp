// SPDX-License-Identifier: Apache-2.0
// What the training step does with flat memory on CUDA, against the cpu
// kernels: zeroes, sums, norms, updates, casts and moves; to the bit but for
// sums whose order is free.
#include "tests/kernels/cuda/CudaKernelCase.h"

#include <limits>

namespace llmrt {
namespace {

using testing::Guarded;
using testing::sameBits;

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

TEST(CudaZero, clearsItsBytesOnly) {
  for (int64_t offset : {0, 3}) // bytes: an address without alignment too
    for (int64_t bytes : {1, 16, 4096, 40003}) {
      Guarded<uint8_t> out(bytes + offset + 7);
      ZeroArgs a = {ceilDiv(bytes, 4096), out.data() + offset, bytes};
      testing::runCuda("zero", a, a.blocks, 1);
      for (int64_t i = 0; i < out.count(); ++i)
        ASSERT_EQ(out[i], i >= offset && i < offset + bytes ? 0 : 0xFF) << i;
      EXPECT_TRUE(out.guardsHold());
    }
}

TEST(CudaAddTo, isTheCpuKernels) {
  for (int64_t offset : {0, 1})
    for (int64_t count : {1, 1023, 9000}) {
      std::vector<float> x = testing::randomFloats(count + offset, 1);
      std::vector<float> before = testing::randomFloats(count + offset, 2);
      Guarded<float> cpu(before), cuda(before);
      AddToArgs a = {ceilDiv(count, 1024), cpu.data() + offset,
                     x.data() + offset, count};
      testing::runCpu("add_to", a, a.blocks, 1);
      a.out = cuda.data() + offset;
      testing::runCuda("add_to", a, a.blocks, 1);
      EXPECT_TRUE(sameBits(cuda.values(), cpu.values()));
      EXPECT_TRUE(cuda.guardsHold());
    }
}

TEST(CudaSquareSums, isTheCpuKernels) {
  for (int64_t blockElements : {1, 37, 400})
    for (int64_t elements : {0, 5, 300}) {
      const int64_t blocks =
          ceilDiv(elements, blockElements) + 1; // an empty one
      std::vector<float> x = testing::randomFloats(elements, 1);
      Guarded<double> cpu(blocks), cuda(blocks);
      SquareSumsArgs a = {blocks, x.data(), cpu.data(), blockElements,
                          elements};
      testing::runCpu("square_sums", a, blocks, 1);
      a.out = cuda.data();
      testing::runCuda("square_sums", a, blocks, 1);
      for (int64_t b = 0; b < blocks; ++b)
        EXPECT_NEAR(cuda[b], cpu[b], 1e-13 * cpu[b]) << b;
      EXPECT_TRUE(cuda.guardsHold());
    }
}

std::vector<double> terms(int64_t count) {
  std::vector<double> values;
  for (float x : testing::randomFloats(count, 1))
    values.push_back(x * x / 3.0);
  return values;
}

TEST(CudaSumTerms, hasTheBitsOfTheTree) {
  for (int64_t count : {0, 1, 3, 255, 256, 257, 1000, 4099}) {
    std::vector<double> values = terms(count);
    Guarded<double> cpu(3), cuda(3);
    testing::runCpu("sum_terms",
                    SumTermsArgs{1, values.data(), count, cpu.data(), 1}, 1, 1);
    testing::runCuda("sum_terms",
                     SumTermsArgs{1, values.data(), count, cuda.data(), 1}, 1,
                     1);
    EXPECT_TRUE(sameBits(cuda.values(), cpu.values())) << count;
    EXPECT_TRUE(cuda.guardsHold());
  }
}

TEST(CudaGlobalNorm, hasTheBitsOfTheTree) {
  for (float clip : {0.0f, 0.5f, 1e6f})
    for (double first : {1.0, std::numeric_limits<double>::infinity(),
                         std::numeric_limits<double>::quiet_NaN()}) {
      std::vector<double> values = terms(700);
      values[0] = first;
      std::vector<float> hyper(16);
      hyper[7] = clip;
      Guarded<float> cpu(4), cuda(4);
      testing::runCpu(
          "global_norm",
          GlobalNormArgs{1, values.data(), 700, hyper.data(), cpu.data()}, 1,
          1);
      testing::runCuda(
          "global_norm",
          GlobalNormArgs{1, values.data(), 700, hyper.data(), cuda.data()}, 1,
          1);
      // A NaN may have another sign.
      for (int i = std::isnan(first) ? 1 : 0; i < 4; ++i)
        EXPECT_EQ(cuda[i], cpu[i]) << clip << " " << first << " " << i;
      EXPECT_EQ(std::isnan(cuda[0]), std::isnan(cpu[0]));
      EXPECT_TRUE(cuda.guardsHold());
    }
}

/// Parameter and both moments.
struct Updated {
  Guarded<float> param, moment1, moment2;
};

TEST(CudaAdamw, hasTheBitsOfTheCpu) {
  std::vector<float> hyper = {1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.1f,
                              1e-3f, 1.0f, 0,      0,     0,    0,
                              0,     0,    0,      0};
  for (int64_t elements : {1, 50, 4096, 9001})
    for (int64_t offset : {0, 1})
      for (bool hasRests : {false, true})
        for (float isFinite : {0.0f, 1.0f}) {
          hyper[10] = hasRests ? 0.1f : 0;
          hyper[11] = hasRests ? 0.001f : 0;
          const std::vector<float> norm = {2.0f, 0.5f, isFinite, 0};
          const int64_t size = elements + offset;
          std::vector<float> gradient = testing::randomFloats(size, 1);
          std::vector<float> second = testing::randomFloats(size, 4);
          for (float& x : second)
            x *= x;
          auto begin = [&] {
            return Updated{Guarded<float>(testing::randomFloats(size, 2)),
                           Guarded<float>(testing::randomFloats(size, 3)),
                           Guarded<float>(second)};
          };
          Updated cpu = begin(), cuda = begin();
          auto args = [&](Updated& u) {
            return AdamwArgs{ceilDiv(elements, 96),
                             u.param.data() + offset,
                             gradient.data() + offset,
                             u.moment1.data() + offset,
                             u.moment2.data() + offset,
                             norm.data(),
                             hyper.data(),
                             96,
                             elements,
                             offset};
          };
          testing::runCpu("adamw", args(cpu), ceilDiv(elements, 96), 1);
          testing::runCuda("adamw", args(cuda), ceilDiv(elements, 96), 1);
          EXPECT_TRUE(sameBits(cuda.param.values(), cpu.param.values()));
          EXPECT_TRUE(sameBits(cuda.moment1.values(), cpu.moment1.values()));
          EXPECT_TRUE(sameBits(cuda.moment2.values(), cpu.moment2.values()));
          EXPECT_TRUE(cuda.param.guardsHold() && cuda.moment1.guardsHold() &&
                      cuda.moment2.guardsHold());
        }
}

TEST(CudaCastWeight, hasTheBitsOfTheCpu) {
  for (int64_t N : {1, 70})
    for (int64_t K : {3, 64, 100}) {
      std::vector<float> from = testing::randomFloats(N * K, 1);
      Guarded<uint16_t> cpu(N * K), cuda(N * K);
      CastWeightArgs a = {
          N, from.data(), cpu.data(),
          N, K,           static_cast<int64_t>(WeightLayout::RowMajor)};
      testing::runCpu("cast_weight", a, N, 1);
      a.to = cuda.data();
      testing::runCuda("cast_weight", a, N, 1);
      EXPECT_TRUE(sameBits(cuda.values(), cpu.values()));
      EXPECT_TRUE(cuda.guardsHold());
    }
}

template <typename Element>
void expectMoved(DType dtype, int64_t K) {
  std::vector<Element> from(20 * K);
  for (size_t i = 0; i < from.size(); ++i)
    from[i] = static_cast<Element>(i + 1);
  Guarded<Element> cpu(12 * K), cuda(12 * K);
  MoveRowsArgs a = {12, from.data(), 0, 5, cpu.data(),
                    0,  3,           7, K, static_cast<int64_t>(dtype)};
  testing::runCpu("move_rows", a, 12, 1);
  a.to = cuda.data();
  testing::runCuda("move_rows", a, 12, 1);
  EXPECT_TRUE(sameBits(cuda.values(), cpu.values()));
  EXPECT_TRUE(cuda.guardsHold());
}

TEST(CudaMoveRows, isTheCpuKernels) {
  for (int64_t K : {1, 37, 300}) {
    expectMoved<uint16_t>(DType::BF16, K);
    expectMoved<uint32_t>(DType::F32, K);
  }
}

TEST(CudaTraining, refusesPanels) {
  std::vector<float> x(4096);
  MoveRowsArgs a = {1, x.data(), 1, 0, x.data(), 0, 0, 1, 32, 0};
  EXPECT_THAT(testing::runCudaKernel(
                  "move_rows", reinterpret_cast<const uint64_t*>(&a), 1, 1),
              ::testing::HasSubstr("LLMC-E0802"));
}

} // namespace
} // namespace llmrt
