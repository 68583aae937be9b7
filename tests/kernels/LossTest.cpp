// SPDX-License-Identifier: Apache-2.0
// The losses of the training step and their gradients against formulas in
// double: cross entropy over a vocabulary in parts, token weights and counts,
// preference losses (gradients also by finite differences).
#include "tests/kernels/KernelRun.h"

#include <functional>

namespace llmrt {
namespace {

using testing::Cut;
using testing::Guarded;

const std::vector<Cut> kCuts = {{1}, {2}, {1, 1, 1}, {1, 3, 1}};

/// Rows of logits whose vocabulary is split over ranks in unequal parts.
struct Vocabulary {
  int64_t rows;
  std::vector<int64_t> begins; // and the end
  std::vector<float> logits;   // [rows, V]
  std::vector<int32_t> labels;

  Vocabulary(int64_t rows, std::vector<int64_t> begins)
      : rows(rows), begins(begins),
        logits(testing::randomFloats(rows * V(), 1, 5.0f)) {
    for (int64_t r = 0; r < rows; ++r)
      labels.push_back(r % 4 == 3 ? -100
                                  : static_cast<int32_t>(r * 7919 % V()));
    labels[0] = 0;
    labels[1] = static_cast<int32_t>(V() - 1);
    for (int64_t c = 0; c < V(); ++c) // far apart: exp must not overflow
      logits[2 * V() + c] = c == 5 ? 3e4f : -3e4f;
  }

  int64_t V() const { return begins.back(); }

  int64_t ranks() const { return begins.size() - 1; }

  int64_t width(int64_t t) const { return begins[t + 1] - begins[t]; }

  /// Rank t's logits with `extra` columns that are not to be read.
  std::vector<float> part(int64_t t, int64_t extra) const {
    std::vector<float> x;
    for (int64_t r = 0; r < rows; ++r) {
      x.insert(x.end(), &logits[r * V() + begins[t]],
               &logits[r * V()] + begins[t + 1]);
      x.insert(x.end(), extra, Guarded<float>::poison());
    }
    return x;
  }

  double logSum(int64_t r) const {
    const float* x = &logits[r * V()];
    double largest = *std::max_element(x, x + V()), sum = 0;
    for (int64_t c = 0; c < V(); ++c)
      sum += std::exp(x[c] - largest);
    return largest + std::log(sum);
  }
};

class CrossEntropy : public ::testing::TestWithParam<std::vector<int64_t>> {};

TEST_P(CrossEntropy, statisticsLossAndGradient) {
  const Vocabulary all(9, GetParam());
  const int64_t rows = all.rows, ranks = all.ranks(), stride = rows * 3 + 5;
  for (CpuLevel level : testing::levels())
    for (Cut cut : kCuts) {
      Guarded<float> stats(ranks * stride);
      for (int64_t t = 0; t < ranks; ++t) {
        std::vector<float> x = all.part(t, 3);
        CrossEntropyStatisticsArgs a = {rows,
                                        x.data(),
                                        all.width(t) + 3,
                                        all.labels.data(),
                                        stats.data() + t * stride,
                                        all.width(t),
                                        all.begins[t]};
        testing::runKernel("cross_entropy_statistics", level, a, rows, 1, cut);
      }
      Guarded<float> loss(rows), logSum(rows);
      CrossEntropyLossArgs a = {rows,         stats.data(),      stride,
                                ranks,        all.labels.data(), loss.data(),
                                logSum.data()};
      testing::runKernel("cross_entropy_loss", level, a, rows, 1, cut);
      EXPECT_TRUE(stats.guardsHold() && loss.guardsHold() &&
                  logSum.guardsHold());
      for (int64_t r = 0; r < rows; ++r) {
        // exp errs by 1.01 units, sums of V / (4 lanes) terms by as many u, and
        // results are rounded once.
        double expected = all.logSum(r);
        double u = 0x1p-24 * (4 + all.V() / 16 + std::abs(expected));
        ASSERT_NEAR(logSum[r], expected, u) << r;
        double minus = all.labels[r] < 0
                           ? 0.0
                           : expected - all.logits[r * all.V() + all.labels[r]];
        ASSERT_NEAR(loss[r], minus, u + 0x1p-24 * std::abs(minus)) << r;
      }
      std::vector<float> weights(rows, 0.125f);
      weights[4] = 0.0f;
      for (int64_t t = 0; t < ranks; ++t)
        for (bool inPlace : {false, true}) {
          const int64_t V = all.width(t), columns = V + 2, ldo = V + 3;
          Guarded<float> x(all.part(t, 3)), out(rows * ldo);
          float* result = inPlace ? x.data() : out.data();
          CrossEntropyGradientArgs g = {rows,
                                        x.data(),
                                        V + 3,
                                        all.labels.data(),
                                        logSum.data(),
                                        weights.data(),
                                        result,
                                        ldo,
                                        V,
                                        all.begins[t],
                                        columns};
          testing::runKernel("cross_entropy_gradient", level, g, rows, 1, cut);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t c = 0; c < V; ++c) {
              double p = std::exp(all.logits[r * all.V() + all.begins[t] + c] -
                                  all.logSum(r));
              bool hit = all.labels[r] == all.begins[t] + c;
              double u = 0x1p-24 * (4 + all.V() / 16 + std::abs(all.logSum(r)));
              ASSERT_NEAR(result[r * ldo + c], weights[r] * (p - hit),
                          weights[r] * (p * 4 * u + 0x1p-24))
                  << r << " " << c;
              if (weights[r] == 0.0f) {
                ASSERT_EQ(result[r * ldo + c], 0.0f);
              }
            }
            ASSERT_EQ(result[r * ldo + V], 0.0f);
            ASSERT_EQ(result[r * ldo + V + 1], 0.0f);
            ASSERT_TRUE(std::isnan(result[r * ldo + V + 2]));
          }
          EXPECT_TRUE(x.guardsHold() && out.guardsHold());
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, CrossEntropy,
                         ::testing::Values(std::vector<int64_t>{0, 67},
                                           std::vector<int64_t>{0, 1000},
                                           std::vector<int64_t>{0, 33, 40, 41,
                                                                129}));

TEST(TokenWeights, countsAndWeighs) {
  const std::vector<int32_t> labels = {4, -100, 0, -1, 7, 7, 1};
  const int64_t rows = labels.size();
  for (CpuLevel level : testing::levels())
    for (Cut cut : kCuts) {
      Guarded<float> count(1), weights(rows), sum(1);
      CountLabelsArgs c = {1, labels.data(), rows, 1, count.data()};
      testing::runKernel("count_labels", level, c, 1, 1, cut);
      EXPECT_EQ(count[0], 5.0f);
      const std::vector<int32_t> pairs = {-100, 3, -1, -1, 0, 0};
      CountLabelsArgs ofPairs = {1, pairs.data(), 6, 2, count.data()};
      testing::runKernel("count_labels", level, ofPairs, 1, 1, cut);
      EXPECT_EQ(count[0], 2.0f);
      count[0] = 5.0f;
      TokenWeightsArgs w = {rows, labels.data(), count.data(), weights.data()};
      testing::runKernel("token_weights", level, w, rows, 1, cut);
      for (int64_t r = 0; r < rows; ++r)
        EXPECT_EQ(weights[r], labels[r] < 0 ? 0.0f : 1.0f / 5.0f);
      std::vector<float> x = testing::randomFloats(rows, 1);
      x[1] = NAN; // not counted
      double expected = 0;
      for (int64_t r = 0; r < rows; ++r)
        if (labels[r] >= 0)
          expected += double{x[r]} * weights[r];
      for (int64_t accumulate : {0, 1}) {
        sum[0] = accumulate ? 2.5f : NAN;
        WeightedSumArgs s = {1,    x.data(),   weights.data(),
                             rows, sum.data(), accumulate};
        testing::runKernel("weighted_sum", level, s, 1, 1, cut);
        EXPECT_EQ(sum[0], static_cast<float>(expected + 2.5 * accumulate));
      }
      EXPECT_TRUE(count.guardsHold() && weights.guardsHold() &&
                  sum.guardsHold());
    }
}

/// Pairs of sequences with their rows' losses.
struct Preferences {
  static constexpr int64_t S = 8, R = 5;
  std::vector<float> loss = testing::randomFloats(S * R, 1);
  std::vector<float> reference = testing::randomFloats(S * R, 2);
  std::vector<int32_t> labels = std::vector<int32_t>(S * R, 3);
  std::vector<float> hyper = std::vector<float>(16, 0.0f);

  Preferences(float beta, float smoothing) {
    for (int64_t r = 0; r < S * R; ++r) {
      loss[r] = std::abs(loss[r]);
      reference[r] = std::abs(reference[r]);
      // Sequence 4 counts nothing; 6 and 7 are padding.
      if (r % 3 == 1 || (r >= 4 * R && r < 5 * R) || r >= 6 * R) {
        labels[r] = -100;
        loss[r] = reference[r] = 0.0f;
      }
    }
    hyper[8] = beta;
    hyper[9] = smoothing;
  }

  // Sum or mean of log p, as TRL's DPOTrainer computes it.
  double logP(const std::vector<float>& x, int64_t s, int64_t kind) const {
    double sum = 0, count = 0;
    for (int64_t r = s * R; r < (s + 1) * R; ++r)
      if (labels[r] >= 0) {
        sum -= x[r];
        ++count;
      }
    return kind == 2 && count > 0 ? sum / count : sum;
  }

  /// {loss, chosen, rejected, margin, accuracy, pairs}
  std::vector<double> expected(int64_t kind, double scale) const {
    std::vector<double> out(6, 0.0);
    const double beta = hyper[8], smoothing = hyper[9];
    auto logSigmoid = [](double x) { return -std::log(1 + std::exp(-x)); };
    for (int64_t s = 0; s < S - 2; s += 2) {
      double piChosen = logP(loss, s, kind),
             refChosen = logP(reference, s, kind);
      double piRejected = logP(loss, s + 1, kind),
             refRejected = logP(reference, s + 1, kind);
      double logits = (piChosen - piRejected) - (refChosen - refRejected);
      double value = -logSigmoid(beta * logits) * (1 - smoothing) -
                     logSigmoid(-beta * logits) * smoothing;
      if (kind == 1)
        value = std::max(0.0, 1 - beta * logits);
      if (kind == 2)
        value = std::pow(logits - 1 / (2 * beta), 2);
      double chosen = beta * (logP(loss, s, 0) - logP(reference, s, 0));
      double rejected =
          beta * (logP(loss, s + 1, 0) - logP(reference, s + 1, 0));
      out[0] += value / scale;
      out[1] += chosen;
      out[2] += rejected;
      out[3] += chosen - rejected;
      out[4] += chosen > rejected;
      out[5] += 1;
    }
    return out;
  }
};

TEST(PreferenceLoss, equalsTrlsFormulasAndItsGradientIsTheirs) {
  for (int64_t kind : {0, 1, 2})
    for (float beta : {0.1f, 0.7f})
      for (float smoothing : {0.0f, 0.2f}) {
        Preferences p(beta, smoothing);
        const int64_t S = Preferences::S, R = Preferences::R;
        const float scale = 7.0f;
        std::vector<double> expected = p.expected(kind, scale);
        for (CpuLevel level : testing::levels()) {
          Guarded<float> weights(S * R), out(6);
          PreferenceLossArgs a = {1,
                                  p.loss.data(),
                                  p.reference.data(),
                                  p.labels.data(),
                                  p.hyper.data(),
                                  kind,
                                  S,
                                  R,
                                  &scale,
                                  weights.data(),
                                  out.data()};
          testing::runKernel("preference_loss", level, a, 1, 1);
          // Computed in double, rounded once.
          for (int64_t i = 0; i < 6; ++i)
            EXPECT_NEAR(out[i], expected[i], 0x1p-22 * std::abs(out[i])) << i;
          for (int64_t r = 0; r < S * R; ++r) {
            if (p.labels[r] < 0) {
              EXPECT_EQ(weights[r], 0.0f);
              continue;
            }
            // Central differences in steps of 2^-10: their error is of the
            // order of step^2 times a third derivative below 1.
            Preferences moved = p;
            const float step = 0x1p-10f;
            moved.loss[r] = p.loss[r] + step;
            double up = moved.expected(kind, scale)[0];
            double high = moved.loss[r];
            moved.loss[r] = p.loss[r] - step;
            double down = moved.expected(kind, scale)[0];
            double slope = (up - down) / (high - moved.loss[r]);
            EXPECT_NEAR(weights[r], slope, 1e-6) << kind << " row " << r;
          }
          EXPECT_TRUE(weights.guardsHold() && out.guardsHold());
        }
      }
}

} // namespace
} // namespace llmrt
