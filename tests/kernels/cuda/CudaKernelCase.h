// SPDX-License-Identifier: Apache-2.0
// What the tests of CUDA kernels share: running one beside its cpu kernel, and
// how far apart their results may be. The same cases run on an emulation and,
// with --on-gpu, on a GPU.
#pragma once

#include "runtime/kernels/cuda/CudaKernelRegistry.h"
#include "tests/kernels/KernelRun.h"

namespace llmrt::testing {

/// Bounds of the relative Frobenius error. f32: sums of up to some thousand
/// terms in another order, each rounded to 2^-24 of its size, and exp to 2^-21.
/// bf16: factors rounded to 2^-9 of their size, of either sign.
inline constexpr double kF32Error = 1e-5;
inline constexpr double kBf16Error = 1e-2;

/// Keeps the largest error of a test in its report. When the expectation of
/// this comparison fails, a line "wrong: " says which elements differ.
void noteComparison(double error, const std::vector<float>& actual,
                    const std::vector<float>& expected);

/// The features of GPUs whose forms a test tries one after the other: with and
/// without wgmma on the emulation; on a GPU those it has, without those that
/// the environment takes away.
std::vector<CudaFeatures> featuresToTry();

/// Makes launches those of a GPU with these features from now on; on a GPU
/// nothing.
void useFeatures(CudaFeatures features);

/// Runs a hand-tuned kernel on a device; on a GPU twice, with the same bits.
/// Addresses among the words are of elements of vectors. Returns an empty text,
/// or what went wrong.
std::string runCudaKernel(std::string_view name, const uint64_t* words,
                          int64_t rows, int64_t cols);

/// While one lives, the emulating device multiplies by the fake cuBLASLt what
/// that takes. A GPU decides itself.
class FakeLibrary {
public:
  FakeLibrary();
  FakeLibrary(const FakeLibrary&) = delete;
  ~FakeLibrary();

  /// Expects that as many launches went there since it began to live; on a GPU
  /// nothing.
  void expectLaunches(int64_t number) const;
};

/// Infinite where one of them only is NaN, as what nobody writes is.
inline double relativeError(const std::vector<float>& actual,
                            const std::vector<float>& expected) {
  double difference = 0, size = 0;
  bool isWhole = actual.size() == expected.size();
  for (size_t i = 0; isWhole && i < expected.size(); ++i) {
    isWhole = std::isnan(actual[i]) == std::isnan(expected[i]);
    if (!std::isnan(expected[i])) {
      difference +=
          (double{actual[i]} - expected[i]) * (double{actual[i]} - expected[i]);
      size += double{expected[i]} * expected[i];
    }
  }
  double error =
      size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
  if (!isWhole)
    error = HUGE_VAL;
  noteComparison(error, actual, expected);
  return error;
}

template <typename Args>
void runCuda(std::string_view name, const Args& args, int64_t rows,
             int64_t cols) {
  EXPECT_EQ(
      runCudaKernel(name, reinterpret_cast<const uint64_t*>(&args), rows, cols),
      "");
}

template <typename Args>
void runCpu(std::string_view name, const Args& args, int64_t rows,
            int64_t cols) {
  runKernel(name, detectCpuLevel(), args, rows, cols);
}

inline std::vector<uint16_t> narrowed(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (float v : values)
    out.push_back(std::isnan(v) ? 0xFFFF : toBf16(v));
  return out;
}

} // namespace llmrt::testing
