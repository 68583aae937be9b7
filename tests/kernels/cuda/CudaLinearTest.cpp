// SPDX-License-Identifier: Apache-2.0
// linear on CUDA against the cpu kernel: every form, odd sizes, several
// weights, valid rows behind the grid's.
#include "tests/kernels/cuda/CudaKernelCase.h"

namespace llmrt {
namespace {

using testing::Guarded;

struct Shape {
  int64_t rows;  // of the grid
  int64_t valid; // of them
  int64_t K;
  std::vector<int64_t> N;
  bool zip = false;
};

struct Problem {
  Shape shape;
  DType dtype;
  int64_t ldx;
  std::vector<float> x;
  std::vector<std::vector<float>> weights;
  std::vector<std::vector<uint16_t>> narrow;
  std::vector<Guarded<float>> outs;

  Problem(const Shape& s, DType dtype, int64_t padding)
      : shape(s), dtype(dtype), ldx(s.K + padding),
        x(testing::randomFloats(s.rows * ldx, 1)) {
    for (int64_t N : s.N) {
      weights.push_back(testing::randomFloats(N * s.K, 2 + weights.size()));
      narrow.push_back(testing::narrowed(weights.back()));
    }
  }

  LinearArgs args(int64_t padding) {
    outs.clear();
    LinearArgs a = {};
    a.rows = shape.valid;
    a.x = x.data();
    a.ldx = ldx;
    a.K = shape.K;
    a.dtype = static_cast<int64_t>(dtype);
    a.layout = static_cast<int64_t>(WeightLayout::RowMajor);
    a.zip = shape.zip;
    a.count = shape.N.size();
    for (size_t j = 0; j < shape.N.size(); ++j)
      outs.emplace_back(shape.rows * (shape.N[j] + padding));
    for (size_t j = 0; j < shape.N.size(); ++j) {
      LinearWeight& w = a.weights[j];
      w.w = dtype == DType::F32 ? static_cast<const void*>(weights[j].data())
                                : narrow[j].data();
      w.y = outs[j].data();
      w.N = shape.N[j];
      w.ldy = shape.N[j] + padding;
    }
    return a;
  }

  int64_t cpuCols() const {
    int64_t cols = 0, panel = kPanelBytes / dtypeBytes(dtype);
    for (size_t j = 0; j < (shape.zip ? 1 : shape.N.size()); ++j)
      cols += (shape.N[j] + panel - 1) / panel * panel;
    return cols;
  }
};

/// Factors that were rounded before have the bits of those that the kernel
/// rounds, where many rows are.
void expectSameOfBf16(Problem& problem, int64_t padding) {
  const Shape& shape = problem.shape;
  LinearArgs args = problem.args(padding);
  const std::vector<uint16_t> rounded = testing::narrowed(problem.x);
  std::vector<std::vector<float>> expected;
  for (bool isOfBf16 : {false, true}) {
    args = problem.args(padding);
    if (isOfBf16) {
      args.x = reinterpret_cast<const float*>(rounded.data());
      args.factorDtype = static_cast<int64_t>(DType::BF16);
    }
    testing::runCuda("linear", args, shape.rows, problem.cpuCols());
    for (size_t j = 0; j < problem.outs.size(); ++j) {
      if (isOfBf16)
        EXPECT_TRUE(testing::sameBits(problem.outs[j].values(), expected[j]))
            << shape.rows << " rows, K " << shape.K << " weight " << j;
      else
        expected.push_back(problem.outs[j].values());
      EXPECT_TRUE(problem.outs[j].guardsHold());
    }
  }
}

void expectAgreement(const Shape& shape, DType dtype, int64_t padding) {
  SCOPED_TRACE(::testing::Message()
               << shape.rows << " rows, " << shape.valid << " valid, K "
               << shape.K << " padding " << padding << " dtype "
               << static_cast<int>(dtype));
  Problem problem(shape, dtype, padding);
  LinearArgs args = problem.args(padding);
  testing::runCpu("linear", args, shape.valid, problem.cpuCols());
  std::vector<std::vector<float>> expected;
  for (auto& out : problem.outs)
    expected.push_back(out.values());
  args = problem.args(padding);
  testing::runCuda("linear", args, shape.rows, problem.cpuCols());
  // Few rows keep x in f32.
  const bool isRounded = dtype == DType::BF16 && shape.rows > 16;
  for (size_t j = 0; j < expected.size(); ++j) {
    EXPECT_LT(testing::relativeError(problem.outs[j].values(), expected[j]),
              isRounded ? testing::kBf16Error : testing::kF32Error)
        << "weight " << j;
    EXPECT_TRUE(problem.outs[j].guardsHold());
  }
}

TEST(CudaLinear, fewRows) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 2, 3, 4, 5, 8, 11, 16})
      expectAgreement({rows, rows, 264, {33, 64, 7}}, dtype, rows % 2 * 4);
}

TEST(CudaLinear, longReductions) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 8, 13})
      expectAgreement({rows, rows, 4104, {9}}, dtype, 0);
}

TEST(CudaLinear, oddReductionsAndStrides) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 7, 20})
      expectAgreement({rows, rows, 77, {19}}, dtype, 3);
}

TEST(CudaLinear, manyRows) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({17, 17, 32, {128}}, dtype, 0);
    expectAgreement({40, 40, 72, {33, 130}}, dtype, 4);
    expectAgreement({150, 150, 104, {70}}, dtype, 0);
  }
}

// x of any address and distance is rounded; the library reads the rest.
TEST(CudaLinear, manyRowsByTheLibrary) {
  testing::FakeLibrary library;
  expectAgreement({17, 17, 32, {128}}, DType::BF16, 0);
  expectAgreement({40, 40, 72, {36, 132}}, DType::BF16, 4);
  library.expectLaunches(2);
  expectAgreement({40, 40, 72, {33, 130}}, DType::BF16, 0); // rows of y
  expectAgreement({20, 20, 77, {20}}, DType::BF16, 0);      // of the weight
  expectAgreement({16, 16, 72, {36}}, DType::BF16, 0);      // few rows
  expectAgreement({40, 40, 72, {36}}, DType::F32, 0);
  library.expectLaunches(2);
}

TEST(CudaLinear, factorsOfBf16) {
  auto expectSame = [](const Shape& shape, int64_t padding) {
    Problem problem(shape, DType::BF16, padding);
    expectSameOfBf16(problem, padding);
  };
  expectSame({17, 17, 32, {128}}, 0);
  expectSame({40, 40, 72, {33, 130}}, 8);
  expectSame({150, 140, 104, {70}}, 0);
  expectSame({20, 20, 77, {19}}, 3); // one element at a time
  expectSame({33, 33, 96, {70, 70}, true}, 4);
  testing::FakeLibrary library;
  expectSame({17, 17, 32, {128}}, 0);
  expectSame({40, 40, 72, {36, 132}}, 8);
  library.expectLaunches(4);
  expectSame({40, 40, 72, {36}}, 4); // rows of x: only those of f32
  library.expectLaunches(5);
}

// Any number of rows; f32 weights want f32 factors.
TEST(CudaLinear, fewFactorsOfBf16) {
  for (int64_t rows : {1, 3, 16}) {
    Problem problem({rows, rows, 72, {33, 40}}, DType::BF16, 0);
    LinearArgs args = problem.args(0);
    testing::runCpu("linear", args, rows, problem.cpuCols());
    const std::vector<float> expected = problem.outs[1].values();
    args = problem.args(0);
    const std::vector<uint16_t> rounded = testing::narrowed(problem.x);
    args.x = reinterpret_cast<const float*>(rounded.data());
    args.factorDtype = static_cast<int64_t>(DType::BF16);
    testing::runCuda("linear", args, rows, problem.cpuCols());
    EXPECT_LT(testing::relativeError(problem.outs[1].values(), expected),
              testing::kBf16Error);
    args.dtype = static_cast<int64_t>(DType::F32);
    EXPECT_THAT(testing::runCudaKernel(
                    "linear", reinterpret_cast<const uint64_t*>(&args), 1, 64),
                ::testing::HasSubstr("LLMC-E0802"));
  }
}

TEST(CudaLinear, zippedWeights) {
  for (DType dtype : {DType::F32, DType::BF16})
    for (int64_t rows : {1, 6, 12, 33})
      expectAgreement({rows, rows, 96, {70, 70}, true}, dtype, 0);
}

TEST(CudaLinear, leavesInvalidRowsAlone) {
  for (DType dtype : {DType::F32, DType::BF16}) {
    expectAgreement({8, 3, 64, {40}}, dtype, 0);
    expectAgreement({16, 9, 64, {40}}, dtype, 0);
    expectAgreement({200, 37, 64, {40}}, dtype, 0);
  }
}

TEST(CudaLinear, refusesWhatItCannotRead) {
  Problem problem({1, 1, 64, {32}}, DType::BF16, 0);
  LinearArgs args = problem.args(0);
  args.layout = static_cast<int64_t>(WeightLayout::Panel);
  EXPECT_THAT(testing::runCudaKernel(
                  "linear", reinterpret_cast<const uint64_t*>(&args), 1, 64),
              ::testing::HasSubstr("LLMC-E0802"));
}

} // namespace
} // namespace llmrt
