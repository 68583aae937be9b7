// SPDX-License-Identifier: Apache-2.0
// The losses of the training step on CUDA against the cpu kernels: cross
// entropy over a vocabulary in parts, weights, counts, preference losses.
#include "tests/kernels/cuda/CudaKernelCase.h"

namespace llmrt {
namespace {

using testing::Guarded;
using testing::sameBits;

std::vector<int32_t> someLabels(int64_t rows, int64_t V) {
  std::vector<int32_t> labels;
  for (int64_t r = 0; r < rows; ++r)
    labels.push_back(r % 4 == 3 ? -100 : static_cast<int32_t>(r * 7919 % V));
  return labels;
}

/// Statistics of each rank's columns, loss and gradient by one device.
struct CrossEntropy {
  Guarded<float> stats, loss, logSum;
  std::vector<Guarded<float>> gradients;
};

template <typename Args>
void runOn(bool isCuda, std::string_view name, const Args& args, int64_t rows) {
  if (isCuda)
    testing::runCuda(name, args, rows + 1, 1); // of a grid that is larger
  else
    testing::runCpu(name, args, rows, 1);
}

CrossEntropy crossEntropy(bool isCuda, int64_t rows,
                          const std::vector<int64_t>& begins, int64_t extra,
                          bool inPlace) {
  const int64_t V = begins.back(), ranks = begins.size() - 1;
  const int64_t stride = rows * 3 + 5;
  std::vector<float> logits = testing::randomFloats(rows * V, 1, 5.0f);
  for (int64_t c = 0; c < V; ++c) // far apart: exp must not overflow
    logits[2 * V + c] = c == 5 ? 3e4f : -3e4f;
  std::vector<int32_t> labels = someLabels(rows, V);
  labels[1] = static_cast<int32_t>(V - 1);
  CrossEntropy result{Guarded<float>(ranks * stride),
                      Guarded<float>(rows),
                      Guarded<float>(rows),
                      {}};
  std::vector<Guarded<float>> parts;
  for (int64_t t = 0; t < ranks; ++t) {
    const int64_t width = begins[t + 1] - begins[t], ld = width + extra;
    parts.emplace_back(rows * ld);
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(&logits[r * V + begins[t]], width, parts[t].data() + r * ld);
    CrossEntropyStatisticsArgs a = {rows,
                                    parts[t].data(),
                                    ld,
                                    labels.data(),
                                    result.stats.data() + t * stride,
                                    width,
                                    begins[t]};
    runOn(isCuda, "cross_entropy_statistics", a, rows);
  }
  CrossEntropyLossArgs b = {rows,
                            result.stats.data(),
                            stride,
                            ranks,
                            labels.data(),
                            result.loss.data(),
                            result.logSum.data()};
  runOn(isCuda, "cross_entropy_loss", b, rows);
  std::vector<float> weights;
  for (int64_t r = 0; r < rows; ++r)
    weights.push_back(labels[r] < 0 ? 0.0f : 0.25f);
  for (int64_t t = 0; t < ranks; ++t) {
    const int64_t width = begins[t + 1] - begins[t], ld = width + extra;
    result.gradients.emplace_back(rows * ld);
    Guarded<float>& own = result.gradients.back();
    if (inPlace)
      std::copy_n(parts[t].data(), rows * ld, own.data());
    CrossEntropyGradientArgs c = {rows,
                                  inPlace ? own.data() : parts[t].data(),
                                  ld,
                                  labels.data(),
                                  b.logSum,
                                  weights.data(),
                                  own.data(),
                                  ld,
                                  width,
                                  begins[t],
                                  width + extra / 2};
    runOn(isCuda, "cross_entropy_gradient", c, rows);
    EXPECT_TRUE(own.guardsHold());
  }
  EXPECT_TRUE(result.stats.guardsHold() && result.loss.guardsHold() &&
              result.logSum.guardsHold());
  return result;
}

TEST(CudaCrossEntropy, statisticsLossAndGradient) {
  for (const std::vector<int64_t>& begins :
       {std::vector<int64_t>{0, 7}, {0, 64, 1100}, {0, 33, 40, 333}})
    for (int64_t extra : {0, 4, 7})
      for (bool inPlace : {false, true}) {
        CrossEntropy cpu = crossEntropy(false, 9, begins, extra, inPlace);
        CrossEntropy cuda = crossEntropy(true, 9, begins, extra, inPlace);
        EXPECT_LT(
            testing::relativeError(cuda.stats.values(), cpu.stats.values()),
            testing::kF32Error);
        EXPECT_LT(testing::relativeError(cuda.loss.values(), cpu.loss.values()),
                  testing::kF32Error);
        EXPECT_LT(
            testing::relativeError(cuda.logSum.values(), cpu.logSum.values()),
            testing::kF32Error);
        for (size_t t = 0; t < cpu.gradients.size(); ++t)
          EXPECT_LT(testing::relativeError(cuda.gradients[t].values(),
                                           cpu.gradients[t].values()),
                    testing::kF32Error)
              << "rank " << t << " extra " << extra;
      }
}

// What is not a number stays one, so that the norm shows it.
TEST(CudaCrossEntropy, keepsWhatIsNotANumber) {
  for (float bad : {NAN, INFINITY}) {
    std::vector<float> logits(40, 1.0f), stats(3), loss(1), logSum(1);
    logits[17] = bad;
    const std::vector<int32_t> label = {3};
    testing::runCuda("cross_entropy_statistics",
                     CrossEntropyStatisticsArgs{1, logits.data(), 40,
                                                label.data(), stats.data(), 40,
                                                0},
                     1, 1);
    testing::runCuda("cross_entropy_loss",
                     CrossEntropyLossArgs{1, stats.data(), 3, 1, label.data(),
                                          loss.data(), logSum.data()},
                     1, 1);
    EXPECT_FALSE(std::isfinite(loss[0])) << bad;
  }
}

TEST(CudaTokenWeights, isTheCpuKernels) {
  for (int64_t rows : {1, 300}) {
    std::vector<int32_t> labels = someLabels(rows, 50);
    const std::vector<float> count = {7};
    Guarded<float> cpu(rows), cuda(rows);
    testing::runCpu(
        "token_weights",
        TokenWeightsArgs{rows, labels.data(), count.data(), cpu.data()}, rows,
        1);
    testing::runCuda(
        "token_weights",
        TokenWeightsArgs{rows, labels.data(), count.data(), cuda.data()}, rows,
        1);
    EXPECT_TRUE(sameBits(cuda.values(), cpu.values()));
    EXPECT_TRUE(cuda.guardsHold());
  }
}

TEST(CudaCountLabels, isTheCpuKernels) {
  for (int64_t unit : {1, 6}) {
    std::vector<int32_t> labels = someLabels(4200, 50);
    std::fill_n(labels.begin() + 12, 18, -100);
    Guarded<float> cpu(1), cuda(1);
    testing::runCpu("count_labels",
                    CountLabelsArgs{1, labels.data(), 4200, unit, cpu.data()},
                    1, 1);
    testing::runCuda("count_labels",
                     CountLabelsArgs{1, labels.data(), 4200, unit, cuda.data()},
                     1, 1);
    EXPECT_EQ(cuda[0], cpu[0]);
    EXPECT_GT(cpu[0], 0);
    EXPECT_TRUE(cuda.guardsHold());
  }
}

TEST(CudaWeightedSum, isTheCpuKernels) {
  for (int64_t rows : {5, 1000})
    for (int64_t accumulate : {0, 1}) {
      std::vector<float> x = testing::randomFloats(rows, 1);
      std::vector<float> weights = testing::randomFloats(rows, 2);
      x[3] = NAN; // of weight 0
      weights[3] = 0;
      Guarded<float> cpu(1), cuda(1);
      if (accumulate)
        cpu[0] = cuda[0] = 3.25f;
      testing::runCpu("weighted_sum",
                      WeightedSumArgs{1, x.data(), weights.data(), rows,
                                      cpu.data(), accumulate},
                      1, 1);
      testing::runCuda("weighted_sum",
                       WeightedSumArgs{1, x.data(), weights.data(), rows,
                                       cuda.data(), accumulate},
                       1, 1);
      EXPECT_NEAR(cuda[0], cpu[0], 1e-6 * std::abs(cpu[0]));
      EXPECT_TRUE(cuda.guardsHold());
    }
}

TEST(CudaPreferenceLoss, everyKind) {
  const int64_t S = 6, R = 300;
  std::vector<float> loss = testing::randomFloats(S * R, 1);
  std::vector<float> reference = testing::randomFloats(S * R, 2);
  std::vector<int32_t> labels = someLabels(S * R, 50);
  std::fill_n(labels.begin() + 2 * R, 2 * R, -100); // a pair of padding
  std::fill_n(labels.begin() + 5 * R, R, -100);     // half of a pair
  std::vector<float> hyper(16);
  hyper[8] = 0.1f;
  hyper[9] = 0.2f;
  const std::vector<float> scale = {4};
  for (int64_t kind : {0, 1, 2}) {
    Guarded<float> cpuWeights(S * R), cudaWeights(S * R), cpu(6), cuda(6);
    PreferenceLossArgs a = {
        1, loss.data(), reference.data(), labels.data(),     hyper.data(), kind,
        S, R,           scale.data(),     cpuWeights.data(), cpu.data()};
    testing::runCpu("preference_loss", a, 1, 1);
    a.weights = cudaWeights.data();
    a.out = cuda.data();
    testing::runCuda("preference_loss", a, 1, 1);
    EXPECT_LT(testing::relativeError(cuda.values(), cpu.values()), 1e-6);
    EXPECT_LT(testing::relativeError(cudaWeights.values(), cpuWeights.values()),
              1e-6);
    EXPECT_TRUE(cuda.guardsHold() && cudaWeights.guardsHold());
  }
}

} // namespace
} // namespace llmrt
