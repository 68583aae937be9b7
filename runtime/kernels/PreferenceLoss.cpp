// SPDX-License-Identifier: Apache-2.0
// preference_loss: the loss of pairs of sequences, its gradient with respect to
// each row's loss, and what is reported of it; in double, pairs and rows in
// ascending order. With x = (log p chosen - log p rejected) of the policy minus
// the same of the reference:
//   sigmoid  -(1 - s) log sigma(beta x) - s log sigma(-beta x), s smoothing
//   hinge    max(0, 1 - beta x)
//   ipo      (x - 1 / (2 beta))^2, log p as means over counted tokens
// Rewards are beta (log p of the policy - log p of the reference), sums over
// counted tokens with every loss.
//
// Constraints  S even; beta > 0. A sequence without counted tokens has log p 0;
//              a pair of two such (padding) has no loss and is not counted.
// Scratch  none. Source  Rafailov et al. 2023 (DPO); Mitchell 2023 (smoothing);
// Liu et al. 2023 (hinge); Azar et al. 2023 (IPO).
#include "runtime/kernels/Simd.h"
#include "runtime/kernels/TrainingKernelArgs.h"

namespace llmrt::LLMRT_LEVEL {
namespace {

constexpr int64_t kHinge = 1;
constexpr int64_t kIpo = 2;

/// log p of a sequence, and what a row's loss counts in it (without its sign).
struct Sequence {
  double policy = 0.0;
  double reference = 0.0;
  double rowWeight = 0.0;
  bool isCounted = false;
};

struct Loss {
  double value;
  double slope; // d value / d x
};

Sequence sumSequence(const PreferenceLossArgs& a, int64_t sequence) {
  Sequence sum;
  int64_t count = 0;
  for (int64_t r = sequence * a.R; r < (sequence + 1) * a.R; ++r) {
    if (a.labels[r] < 0)
      continue;
    ++count;
    sum.policy -= a.loss[r];
    sum.reference -= a.reference[r];
  }
  if (count == 0)
    return sum;
  sum.rowWeight = a.kind == kIpo ? 1.0 / count : 1.0;
  sum.isCounted = true;
  return sum;
}

// log(1 + e^x) without overflow.
double softplus(double x) {
  double small = __builtin_log1p(__builtin_exp(x > 0.0 ? -x : x));
  return x > 0.0 ? x + small : small;
}

double sigmoid(double x) { return 1.0 / (1.0 + __builtin_exp(-x)); }

Loss pairLoss(const PreferenceLossArgs& a, double x) {
  const double beta = a.hyper[8], smoothing = a.hyper[9], z = beta * x;
  if (a.kind == kHinge)
    return {z < 1.0 ? 1.0 - z : 0.0, z < 1.0 ? -beta : 0.0};
  if (a.kind == kIpo) {
    double off = x - 1.0 / (2.0 * beta);
    return {off * off, 2.0 * off};
  }
  return {(1.0 - smoothing) * softplus(-z) + smoothing * softplus(z),
          beta * (smoothing * sigmoid(z) - (1.0 - smoothing) * sigmoid(-z))};
}

void weighRows(const PreferenceLossArgs& a, int64_t sequence, double weight) {
  for (int64_t r = sequence * a.R; r < (sequence + 1) * a.R; ++r)
    a.weights[r] = a.labels[r] < 0 ? 0.0f : static_cast<float>(weight);
}

} // namespace

void preference_loss(const uint64_t* words, const LlmrtTile* tile, void*) {
  const auto a = readArgs<PreferenceLossArgs>(words);
  if (tile->rowBegin > 0)
    return;
  const double beta = a.hyper[8], scale = a.scale[0];
  double sums[6] = {};
  for (int64_t s = 0; s + 1 < a.S; s += 2) {
    const Sequence chosen = sumSequence(a, s), rejected = sumSequence(a, s + 1);
    if (!chosen.isCounted && !rejected.isCounted) {
      weighRows(a, s, 0.0);
      weighRows(a, s + 1, 0.0);
      continue;
    }
    const double gained = chosen.policy - chosen.reference;
    const double lost = rejected.policy - rejected.reference;
    const Loss loss =
        pairLoss(a, gained * chosen.rowWeight - lost * rejected.rowWeight);
    // log p is minus the sum of row losses.
    weighRows(a, s, -loss.slope * chosen.rowWeight / scale);
    weighRows(a, s + 1, loss.slope * rejected.rowWeight / scale);
    sums[0] += loss.value / scale;
    sums[1] += beta * gained;
    sums[2] += beta * lost;
    sums[3] += beta * (gained - lost);
    sums[4] += gained > lost ? 1.0 : 0.0;
    sums[5] += 1.0;
  }
  for (int i = 0; i < 6; ++i)
    a.out[i] = static_cast<float>(sums[i]);
}

} // namespace llmrt::LLMRT_LEVEL
