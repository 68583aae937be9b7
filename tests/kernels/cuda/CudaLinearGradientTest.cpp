// SPDX-License-Identifier: Apache-2.0
// The gradients of linear, of sums over rows and of the embedding on CUDA
// against the cpu kernels.
#include "tests/kernels/cuda/CudaKernelCase.h"

namespace llmrt {
namespace {

using testing::Guarded;
using testing::sameBits;

double boundOf(DType dtype) {
  return dtype == DType::BF16 ? testing::kBf16Error : testing::kF32Error;
}

void expectInputGradient(DType dtype, int64_t rows, int64_t N, int64_t K,
                         int64_t padding) {
  const int64_t lddy = N + padding, lddx = K + padding;
  std::vector<float> dy = testing::randomFloats(rows * lddy, 1);
  std::vector<float> w = testing::randomFloats(N * K, 2);
  std::vector<uint16_t> narrow = testing::narrowed(w);
  Guarded<float> cpu(rows * lddx), cuda(rows * lddx);
  LinearInputGradientArgs a = {
      rows,
      dy.data(),
      lddy,
      N,
      dtype == DType::F32 ? static_cast<const void*>(w.data()) : narrow.data(),
      static_cast<int64_t>(dtype),
      static_cast<int64_t>(WeightLayout::RowMajor),
      cpu.data(),
      lddx,
      K,
      0};
  testing::runCpu("linear_input_gradient", a, rows, K);
  a.dx = cuda.data();
  testing::runCuda("linear_input_gradient", a, rows, K);
  EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()), boundOf(dtype))
      << rows << " " << N << " " << K;
  EXPECT_TRUE(cuda.guardsHold());
  if (dtype != DType::BF16)
    return;
  // What was rounded before has the same sums, by a library or not.
  Guarded<float> same(rows * lddx);
  const std::vector<uint16_t> rounded = testing::narrowed(dy);
  a.dy = reinterpret_cast<const float*>(rounded.data());
  a.factorDtype = static_cast<int64_t>(DType::BF16);
  a.dx = same.data();
  testing::runCuda("linear_input_gradient", a, rows, K);
  EXPECT_LT(testing::relativeError(same.values(), cuda.values()),
            testing::kF32Error)
      << rows << " " << N << " " << K;
  EXPECT_TRUE(same.guardsHold());
}

TEST(CudaLinearInputGradient, isTheCpuKernels) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectInputGradient(dtype, 1, 40, 64, 0);
    expectInputGradient(dtype, 33, 72, 136, 0);
    expectInputGradient(dtype, 150, 100, 140, 4);
    expectInputGradient(dtype, 65, 37, 77, 3);
  }
}

// Rows of 16 bytes that are no multiples of anything else, dy of any width and
// address. What cannot be described to the library is the kernel's.
TEST(CudaLinearInputGradient, isTheCpuKernelsByTheLibrary) {
  testing::FakeLibrary library;
  expectInputGradient(DType::BF16, 17, 72, 136, 0);
  expectInputGradient(DType::BF16, 65, 37, 72, 4);
  expectInputGradient(DType::BF16, 33, 1, 8, 0);
  library.expectLaunches(4); // the first of bf16 too: rows of 144 bytes
  expectInputGradient(DType::BF16, 1, 40, 64, 0);   // few rows, only of bf16
  expectInputGradient(DType::BF16, 65, 37, 76, 0);  // of the weight: 152 bytes
  expectInputGradient(DType::BF16, 65, 37, 72, 3);  // of dx: 300 bytes
  expectInputGradient(DType::BF16, 40, 24, 104, 0); // the library has nothing
  expectInputGradient(DType::F32, 65, 40, 72, 0);
  library.expectLaunches(5);
}

struct WeightGradient {
  int64_t rows, N, K, validN, validK, padding;
};

void expectWeightGradient(DType dtype, const WeightGradient& s,
                          int64_t accumulate) {
  const int64_t lddy = s.N + s.padding, ldx = s.K + s.padding;
  std::vector<float> dy = testing::randomFloats(s.rows * lddy, 1);
  std::vector<float> x = testing::randomFloats(s.rows * ldx, 2);
  for (int64_t r = 0; r < s.rows; ++r) { // what is padding is not read
    std::fill(&dy[r * lddy + s.validN], &dy[r * lddy] + lddy, NAN);
    std::fill(&x[r * ldx + s.validK], &x[r * ldx] + ldx, NAN);
  }
  std::vector<float> before = testing::randomFloats(s.N * s.K, 3);
  for (int64_t i = 0; i < s.N * s.K; ++i) // padding of a gradient is 0
    if (i / s.K >= s.validN || i % s.K >= s.validK)
      before[i] = 0;
  Guarded<float> cpu(s.N * s.K), cuda(s.N * s.K), same(s.N * s.K);
  if (accumulate)
    cpu = cuda = same = Guarded<float>(before);
  LinearWeightGradientArgs a = {(s.N + 31) / 32 * 32,
                                dy.data(),
                                lddy,
                                x.data(),
                                ldx,
                                s.rows,
                                s.N,
                                s.K,
                                cpu.data(),
                                static_cast<int64_t>(WeightLayout::RowMajor),
                                accumulate,
                                s.validN,
                                s.validK,
                                static_cast<int64_t>(dtype),
                                0};
  testing::runCpu("linear_weight_gradient", a, a.outputs, s.K);
  a.out = cuda.data();
  testing::runCuda("linear_weight_gradient", a, a.outputs, s.K);
  EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()), boundOf(dtype))
      << s.rows << " " << s.N << " " << s.K << " accumulate " << accumulate;
  EXPECT_TRUE(cuda.guardsHold());
  if (dtype != DType::BF16)
    return;
  // What was rounded before has the same sums, by a library or not.
  const std::vector<uint16_t> narrowDy = testing::narrowed(dy),
                              narrowX = testing::narrowed(x);
  a.dy = reinterpret_cast<const float*>(narrowDy.data());
  a.x = reinterpret_cast<const float*>(narrowX.data());
  a.factorDtype = static_cast<int64_t>(DType::BF16);
  a.out = same.data();
  testing::runCuda("linear_weight_gradient", a, a.outputs, s.K);
  EXPECT_LT(testing::relativeError(same.values(), cuda.values()),
            testing::kF32Error)
      << s.rows << " " << s.N << " " << s.K << " accumulate " << accumulate;
  EXPECT_TRUE(same.guardsHold());
}

TEST(CudaLinearWeightGradient, isTheCpuKernels) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t accumulate : {0, 1}) {
      expectWeightGradient(dtype, {1, 40, 64, 40, 64, 0}, accumulate);
      expectWeightGradient(dtype, {70, 136, 72, 136, 72, 4}, accumulate);
      expectWeightGradient(dtype, {100, 33, 150, 30, 141, 0}, accumulate);
      expectWeightGradient(dtype, {37, 77, 19, 70, 19, 3}, accumulate);
    }
}

TEST(CudaLinearWeightGradient, isTheCpuKernelsByTheLibrary) {
  for (int64_t accumulate : {0, 1}) {
    testing::FakeLibrary library;
    expectWeightGradient(DType::BF16, {70, 136, 72, 136, 72, 4}, accumulate);
    expectWeightGradient(DType::BF16, {17, 33, 148, 30, 141, 0}, accumulate);
    expectWeightGradient(DType::BF16, {37, 77, 20, 70, 20, 3}, accumulate);
    expectWeightGradient(DType::BF16, {19, 1, 4, 1, 4, 0}, accumulate);
    library.expectLaunches(4);
    // Where they lie, if they were rounded before.
    expectWeightGradient(DType::BF16, {70, 136, 72, 136, 72, 8}, accumulate);
    expectWeightGradient(DType::BF16, {1, 40, 64, 40, 64, 0}, accumulate);
    expectWeightGradient(DType::BF16, {70, 136, 72, 130, 72, 8}, accumulate);
    library.expectLaunches(8);
    expectWeightGradient(DType::BF16, {37, 77, 19, 70, 19, 3}, accumulate);
    expectWeightGradient(DType::BF16, {20, 16, 104, 16, 104, 0}, accumulate);
    expectWeightGradient(DType::F32, {70, 136, 72, 136, 72, 4}, accumulate);
    library.expectLaunches(8);
  }
}

// Nothing to add up: zeros, or what was there.
TEST(CudaLinearWeightGradient, takesNoRows) {
  testing::FakeLibrary library;
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t accumulate : {0, 1})
      expectWeightGradient(dtype, {0, 40, 64, 40, 64, 0}, accumulate);
  library.expectLaunches(0);
}

TEST(CudaSumRows, isTheCpuKernels) {
  for (int64_t rows : {1, 7, 700})
    for (int64_t W : {5, 32, 100})
      for (int64_t groups : {1, 3})
        for (int64_t accumulate : {0, 1}) {
          const int64_t C = W * groups, ldx = C + 2;
          std::vector<float> x = testing::randomFloats(rows * ldx, 1);
          std::vector<float> before = testing::randomFloats(W, 2);
          Guarded<float> cpu(W), cuda(W);
          if (accumulate)
            cpu = cuda = Guarded<float>(before);
          SumRowsArgs a = {1, x.data(), ldx,        rows,
                           C, W,        cpu.data(), accumulate};
          testing::runCpu("sum_rows", a, 1, W);
          a.out = cuda.data();
          testing::runCuda("sum_rows", a, 1, W);
          EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()),
                    testing::kF32Error)
              << rows << " " << W << " " << groups;
          EXPECT_TRUE(cuda.guardsHold());
        }
}

// In the order of rows, so to the bit.
TEST(CudaEmbeddingGradient, hasTheBitsOfTheCpu) {
  const int64_t rows = 600, V = 130;
  for (int64_t C : {7, 64, 1100})
    for (int64_t accumulate : {0, 1}) {
      std::vector<int32_t> ids;
      for (int64_t r = 0; r < rows; ++r)
        ids.push_back(static_cast<int32_t>(r % 3 == 0 ? 103 : r * 7 % 300));
      ids[4] = -1;
      std::vector<float> dy = testing::randomFloats(rows * C, 1);
      std::vector<float> before = testing::randomFloats(V * C, 2);
      Guarded<float> cpu(V * C), cuda(V * C);
      if (accumulate)
        cpu = cuda = Guarded<float>(before);
      EmbeddingGradientArgs a = {1,    ids.data(), dy.data(), cpu.data(),
                                 rows, C,          100,       120,
                                 V,    0,          accumulate};
      testing::runCpu("embedding_gradient", a, 1, C);
      a.out = cuda.data();
      testing::runCuda("embedding_gradient", a, 1, C);
      EXPECT_TRUE(sameBits(cuda.values(), cpu.values())) << C << accumulate;
      EXPECT_TRUE(cuda.guardsHold());
    }
}

} // namespace
} // namespace llmrt
